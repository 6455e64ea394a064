"""pandas, Polars and DuckDB, each reading and writing with its own functions."""

import duckdb
import pandas
import polars
import pyarrow

from checks import COOKIES, NAMESPACE, connect, equal, main, refused, rows, run, value

SQL = f"SELECT id, city, warmth FROM {NAMESPACE}.cities ORDER BY id"
EXPECTED = [(1, "Oslo", 6.5), (2, "Rome", 16.0), (3, "Quito", None)]


def test_the_table_is_made():
    with connect() as connection:
        run(connection, f"CREATE SHARED TABLE {NAMESPACE}.cities (id BIGINT PRIMARY KEY, city TEXT, warmth DOUBLE) ACCESS private")
        run(connection, f"INSERT INTO {NAMESPACE}.cities VALUES (1, 'Oslo', 6.5), (2, 'Rome', 16.0), (3, 'Quito', NULL)")


def test_pandas_reads():
    with connect() as connection:
        frame = pandas.read_sql(SQL, connection)
        equal(frame["city"].tolist(), ["Oslo", "Rome", "Quito"])
        equal(str(frame["id"].dtype), "int64")
        assert pandas.isna(frame["warmth"][2])
        arrow = pandas.read_sql(SQL, connection, dtype_backend="pyarrow")
        equal(str(arrow["id"].dtype), "int64[pyarrow]")
        # pandas passes no parameters on; the cursor does.
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT city FROM {NAMESPACE}.cities WHERE id = $1", (2,))
            equal(cursor.fetch_df()["city"].tolist(), ["Rome"])
    # pandas leaves the schema out of what it sends: the session has it.
    with connect(db_kwargs=COOKIES) as connection:
        connection.adbc_current_db_schema = NAMESPACE
        whole = pandas.read_sql_table("cities", connection)
        equal(sorted(whole.columns), ["city", "id", "warmth"])


def test_pandas_writes():
    frame = pandas.DataFrame({"id": [1, 2], "city": ["Oslo", None], "at": pandas.to_datetime(["2024-02-29", None])})
    with connect() as connection:
        equal(frame.to_sql("from_pandas", connection, schema=NAMESPACE, index=False), 2)
        try:
            frame.to_sql("from_pandas", connection, schema=NAMESPACE, index=False)
        except ValueError as error:
            assert "exists" in str(error), error
        else:
            raise AssertionError("pandas made a table that exists")
        more = frame.assign(id=[3, 4])
        equal(more.to_sql("from_pandas", connection, schema=NAMESPACE, index=False, if_exists="append"), 2)
        found = rows(connection, f"SELECT id, city FROM {NAMESPACE}.from_pandas ORDER BY id")
        equal(found, [(1, "Oslo"), (2, None), (3, "Oslo"), (4, None)])
        # pandas drops the table and makes another.
        equal(frame.to_sql("from_pandas", connection, schema=NAMESPACE, index=False, if_exists="replace"), 2)
        equal(frame.to_sql("from_pandas", connection, schema=NAMESPACE, index=False, if_exists="delete_rows"), 2)
        equal(value(connection, f"SELECT count(*) FROM {NAMESPACE}.from_pandas"), 2)


def test_polars_reads():
    with connect() as connection:
        frame = polars.read_database(SQL, connection)
        equal(frame.rows(), EXPECTED)
        equal([str(dtype) for dtype in frame.dtypes], ["Int64", "String", "Float64"])
        batches = polars.read_database(SQL, connection, iter_batches=True, batch_size=1000)
        equal(polars.concat(batches).rows(), EXPECTED)
        one = polars.read_database(
            f"SELECT city FROM {NAMESPACE}.cities WHERE id = $1", connection, execute_options={"parameters": [2]}
        )
        equal(one.rows(), [("Rome",)])


def test_polars_writes():
    frame = polars.DataFrame({"id": [1, 2], "city": ["Oslo", None], "tags": [["a"], []]})
    name = f"{NAMESPACE}.from_polars"
    with connect() as connection:
        equal(frame.write_database(name, connection, engine="adbc"), 2)
        with refused("exists"):
            frame.write_database(name, connection, engine="adbc")
        more = frame.with_columns(id=polars.col("id") + 2)
        equal(more.write_database(name, connection, engine="adbc", if_table_exists="append"), 2)
        # Polars makes what it shall append to and does not find.
        equal(frame.write_database(name + "_2", connection, engine="adbc", if_table_exists="append"), 2)
        with refused("replac"):
            frame.write_database(name, connection, engine="adbc", if_table_exists="replace")
        back = polars.read_database(f"SELECT id, city, tags FROM {name} ORDER BY id", connection)
        equal(back.rows(), frame.rows() + more.rows())


def test_duckdb_reads():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(SQL)
        cities = cursor.fetch_record_batch()
        warm = duckdb.sql("SELECT city FROM cities WHERE warmth > 10")
        equal(warm.fetchall(), [("Rome",)])
        cursor.execute(SQL)
        duck = duckdb.connect()
        duck.register("streamed", cursor.fetch_record_batch())
        duck.execute("CREATE TABLE kept AS SELECT * FROM streamed")
        equal(duck.execute("SELECT * FROM kept ORDER BY id").fetchall(), EXPECTED)


def test_duckdb_writes():
    duck = duckdb.connect()
    made = duck.sql("SELECT i AS id, 'row ' || i AS body, i * 0.5::DOUBLE AS half FROM range(100000) AS s(i)")
    with connect() as connection, connection.cursor() as cursor:
        equal(cursor.adbc_ingest("from_duckdb", made.to_arrow_reader(), db_schema_name=NAMESPACE), 100_000)
        found = rows(connection, f"SELECT count(*), sum(id), max(half) FROM {NAMESPACE}.from_duckdb")
        equal(found, [(100_000, 4_999_950_000, 49_999.5)])


def test_frames_of_everything_agree():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {NAMESPACE}.from_duckdb ORDER BY id")
        table = cursor.fetch_arrow_table()
        assert isinstance(table, pyarrow.Table)
        frame = polars.read_database(f"SELECT * FROM {NAMESPACE}.from_duckdb ORDER BY id", connection)
        assert frame.equals(polars.from_arrow(table)), "Polars and pyarrow read different rows"
        assert pandas.read_sql(f"SELECT * FROM {NAMESPACE}.from_duckdb ORDER BY id", connection).equals(table.to_pandas())


main(globals())
