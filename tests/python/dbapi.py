"""PEP 249 from end to end, through ADBC's driver for Flight SQL."""

import datetime
import decimal
import threading
import warnings

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow
from pyarrow import compute

from checks import ADDRESS, NAMESPACE, connect, equal, main, refused, rows, run, value

T = f"{NAMESPACE}.people"


def test_the_module_describes_itself():
    equal(flightsql.apilevel, "2.0")
    assert flightsql.threadsafety in (0, 1, 2, 3)


def test_statements_without_rows_have_run_when_execute_returns():
    with connect() as connection:
        # The cursors are closed at once: nobody fetches.
        connection.execute(
            f"CREATE SHARED TABLE {T} (id BIGINT PRIMARY KEY, name TEXT, height DOUBLE, born DATE) ACCESS private"
        ).close()
        cursor = connection.cursor()
        cursor.execute(f"INSERT INTO {T} VALUES (1, 'Ada', 1.65, '1815-12-10'), (2, 'Alan', NULL, NULL)")
        equal(cursor.rowcount, 2, "the row count of an INSERT")
        cursor.close()
        equal(value(connection, f"SELECT count(*) FROM {T}"), 2)
        cursor = connection.cursor()
        cursor.execute(f"UPDATE {T} SET name = 'Alan T.' WHERE id = 2")
        equal(cursor.rowcount, 1, "the row count of an UPDATE")
        equal(cursor.fetchall(), [], "the rows of an UPDATE")
        cursor.execute(f"DELETE FROM {T} WHERE id = 99")
        equal(cursor.rowcount, 0, "the row count of a DELETE")
        cursor.close()


def test_a_statement_runs_once():
    with connect() as connection:
        run(connection, f"CREATE SHARED TABLE {NAMESPACE}.once (id BIGINT PRIMARY KEY AUTO_INCREMENT, n INT) ACCESS private")
        for fetch in (True, False):
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {NAMESPACE}.once (n) VALUES (7)")
                if fetch:
                    cursor.fetchall()
        equal(value(connection, f"SELECT count(*) FROM {NAMESPACE}.once"), 2)


def test_rows_can_be_fetched_in_every_way():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, name, height, born FROM {T} ORDER BY id")
        equal([column[0] for column in cursor.description], ["id", "name", "height", "born"])
        equal([str(column[1]) for column in cursor.description], ["int64", "string", "double", "date32[day]"])
        equal(cursor.fetchone(), (1, "Ada", 1.65, datetime.date(1815, 12, 10)))
        equal(cursor.fetchone(), (2, "Alan T.", None, None))
        equal(cursor.fetchone(), None)
        cursor.execute(f"SELECT id FROM {T} ORDER BY id")
        equal(cursor.fetchmany(1), [(1,)])
        equal(cursor.fetchall(), [(2,)])
        cursor.execute(f"SELECT id FROM {T} ORDER BY id")
        equal(list(cursor), [(1,), (2,)])
        cursor.execute(f"SELECT id, name FROM {T} ORDER BY id")
        table = cursor.fetch_arrow_table()
        equal(table.to_pydict(), {"id": [1, 2], "name": ["Ada", "Alan T."]})
        equal([str(field.type) for field in table.schema], ["int64", "string"])
        cursor.execute(f"SELECT id FROM {T} ORDER BY id")
        equal(cursor.fetch_df()["id"].tolist(), [1, 2])
        cursor.execute(f"SELECT id FROM {T} ORDER BY id")
        equal(cursor.fetch_polars()["id"].to_list(), [1, 2])


def test_a_query_without_rows_has_columns():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, name FROM {T} WHERE id = 99")
        equal(cursor.fetch_arrow_table().schema.names, ["id", "name"])


def test_returning_is_a_query():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {T} (id, name) VALUES (50, 'Grace') RETURNING id, name")
        equal(cursor.fetchall(), [(50, "Grace")])
        equal(value(connection, f"SELECT count(*) FROM {T} WHERE id = 50"), 1)
        run(connection, f"DELETE FROM {T} WHERE id = 50")


def test_parameters_of_every_python_type():
    table = f"{NAMESPACE}.parameters"
    moment = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)
    zoned = moment.replace(tzinfo=datetime.timezone.utc)
    values = (
        1, True, -(1 << 62), 0.1, "naïve 🦀", b"\x00\xff", datetime.date(2024, 2, 29), moment, zoned,
        decimal.Decimal("-12.50"), datetime.time(23, 59, 59, 999999),
    )
    with connect() as connection, connection.cursor() as cursor:
        run(
            connection,
            f"CREATE SHARED TABLE {table} (id BIGINT PRIMARY KEY, b BOOLEAN, i BIGINT, f DOUBLE, t TEXT, y BYTES, d DATE, "
            "s TIMESTAMP, z TIMESTAMP WITH TIME ZONE, n DECIMAL(10, 2), c TIME) ACCESS private",
        )
        insert = f"INSERT INTO {table} VALUES ({', '.join(f'${i + 1}' for i in range(len(values)))})"
        cursor.execute(insert, values)
        # The same statement again, prepared once.
        cursor.execute(insert, (2,) + (None,) * (len(values) - 1))
        equal(rows(connection, f"SELECT * FROM {table} WHERE id = 2"), [(2,) + (None,) * (len(values) - 1)])
        found = rows(connection, f"SELECT * FROM {table} WHERE id = $1", (1,))[0]
        equal(found[:8] + found[9:], values[:8] + values[9:])
        equal(found[8].timestamp(), zoned.timestamp())
        equal(rows(connection, f"SELECT id FROM {table} WHERE t = $1 AND f < $2", ("naïve 🦀", 0.2)), [(1,)])


def test_executemany_runs_once_for_each_row():
    with connect() as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {T} (id, name) VALUES ($1, $2)", [(10, "a"), (11, None), (12, "c")])
        equal(cursor.rowcount, 3)
        table = pyarrow.table({"id": [20, 21], "name": ["d", "e"]})
        cursor.executemany(f"INSERT INTO {T} (id, name) VALUES ($1, $2)", table)
        equal(cursor.rowcount, 2)
        cursor.executemany(f"INSERT INTO {T} (id, name) VALUES ($1, $2)", [])
        equal(
            rows(connection, f"SELECT id, name FROM {T} WHERE id >= 10 ORDER BY id"),
            [(10, "a"), (11, None), (12, "c"), (20, "d"), (21, "e")],
        )
        cursor.executemany(f"DELETE FROM {T} WHERE id = $1", [(10,), (11,), (12,), (20,), (21,), (99,)])
        equal(cursor.rowcount, 5)


def test_what_is_prepared_says_its_parameters_and_columns():
    with connect() as connection, connection.cursor() as cursor:
        sql = f"SELECT name, height FROM {T} WHERE id = $1"
        parameters = cursor.adbc_prepare(sql)
        equal([str(field.type) for field in parameters], ["int64"])
        cursor.execute(sql, (1,))
        equal(cursor.fetchall(), [("Ada", 1.65)])
        cursor.execute(sql, (2,))
        equal(cursor.fetchall(), [("Alan T.", None)])
        schema = cursor.adbc_execute_schema(f"SELECT id, name FROM {T}")
        equal([(field.name, str(field.type)) for field in schema], [("id", "int64"), ("name", "string")])
        none = cursor.adbc_execute_schema(f"DELETE FROM {T}")
        equal(none.names, [], "the columns of a DELETE")
    with connect() as connection:
        equal(value(connection, f"SELECT count(*) FROM {T}"), 2, "the rows after a DELETE that was only described")


def test_a_result_can_be_read_from_elsewhere():
    with connect() as connection, connect() as other:
        partitions, schema = connection.cursor().adbc_execute_partitions(f"SELECT id FROM {T} ORDER BY id")
        equal((len(partitions), schema.names), (1, ["id"]))
        with other.cursor() as cursor:
            cursor.adbc_read_partition(partitions[0])
            equal(cursor.fetchall(), [(1,), (2,)])


def test_a_large_result_arrives_whole():
    count = 3_000_000
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT i, 'row ' || CAST(i AS TEXT) AS t FROM generate_series(1, {count}) AS s(i)")
        seen = total = 0
        for batch in cursor.fetch_record_batch():
            seen += batch.num_rows
            total += compute.sum(batch.column(0)).as_py()
            equal(batch.column(1)[0].as_py(), f"row {batch.column(0)[0].as_py()}")
        equal((seen, total), (count, count * (count + 1) // 2))


def test_a_result_can_be_left_unread():
    with connect() as connection:
        for _ in range(20):
            with connection.cursor() as cursor:
                cursor.execute("SELECT i, repeat('x', 100) AS t FROM generate_series(1, 50000000) AS s(i)")
                assert len(cursor.fetchmany(3)) == 3
        equal(value(connection, "SELECT 1 + 1"), 2)


def test_a_query_can_be_cancelled():
    with connect() as connection, connection.cursor() as cursor:
        # More than anybody waits for.
        cursor.execute(
            "SELECT count(*) FROM generate_series(1, 10000000) AS a(i), generate_series(1, 10000000) AS b(j) "
            "WHERE (a.i * 31 + b.j) % 1000003 = 7"
        )
        timer = threading.Timer(0.5, cursor.adbc_cancel)
        timer.start()
        with refused("cancel", kind=flightsql.OperationalError):
            cursor.fetchall()
        timer.join()
        equal(value(connection, "SELECT 1 + 1"), 2)


def test_errors_say_what_is_wrong():
    with connect() as connection, connection.cursor() as cursor:
        with refused("peeple", "people", kind=flightsql.ProgrammingError):
            cursor.execute(f"SELECT * FROM {NAMESPACE}.peeple").fetchall()
        with refused("SELEKT", kind=flightsql.ProgrammingError):
            cursor.execute("SELEKT 1").fetchall()
        with refused("already", kind=flightsql.ProgrammingError):
            cursor.execute(f"INSERT INTO {T} (id) VALUES (1)")
        with refused(kind=flightsql.ProgrammingError):
            cursor.execute(f"SELECT name FROM {T} WHERE id = $1 AND height > $2", (1,)).fetchall()
        with refused("$1", kind=flightsql.Error):
            cursor.execute(f"SELECT name FROM {T} WHERE id = ?", (1,)).fetchall()
        with refused("fetch", kind=flightsql.ProgrammingError):
            connection.cursor().fetchone()
        # A failed statement leaves the connection as it was.
        equal(rows(connection, f"SELECT id FROM {T} ORDER BY id"), [(1,), (2,)])


def test_the_reason_of_an_error_can_be_read_by_programs():
    with connect() as connection:
        try:
            connection.execute(f"SELECT * FROM {NAMESPACE}.peeple").fetchall()
        except flightsql.Error as error:
            details = b"".join(detail for _, detail in error.details)
            assert b"TABLE_NOT_FOUND" in details, f"the reason is not in {error.details}"
        else:
            raise AssertionError("a table that is not there was read")


def test_several_statements_are_refused_in_one_call():
    with connect() as connection, connection.cursor() as cursor:
        with refused("one statement"):
            cursor.executescript(f"DELETE FROM {T}; DELETE FROM {T}")
        equal(value(connection, f"SELECT count(*) FROM {T}"), 2)
        cursor.executescript(f"UPDATE {T} SET height = NULL WHERE id = 2")


def test_transactions_are_refused_clearly():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        connection = flightsql.connect(f"grpc://{ADDRESS}")
    said = [str(warning.message) for warning in caught]
    assert any("Cannot disable autocommit" in text for text in said), f"the driver warned of {said}"
    with connection:
        # No transaction was begun: each statement is atomic and durable on its own.
        run(connection, f"UPDATE {T} SET height = 1.7 WHERE id = 2")
        connection.rollback()
        connection.commit()
        equal(value(connection, f"SELECT height FROM {T} WHERE id = 2"), 1.7)
        with refused("transaction", kind=flightsql.NotSupportedError):
            connection.adbc_connection.set_autocommit(False)
        for statement in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s"):
            with refused(kind=flightsql.Error):
                run(connection, statement)


main(globals())
