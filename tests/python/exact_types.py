"""Every SQL type, exact in Arrow and in the frames of Polars, DuckDB and pandas: as it was sent in SQL, and as it comes
back after it was ingested."""

import datetime
import os
import uuid
from decimal import Decimal

# Polars has no interval; as fields of a struct nothing of one is lost.
os.environ["POLARS_IMPORT_INTERVAL_AS_STRUCT"] = "1"

import duckdb
import pandas
import polars
import pyarrow

from checks import NAMESPACE, connect, equal, main, rows, run

UTC = datetime.timezone.utc
MOMENT = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)
ID = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")
WIDE = "-123456789012345678901234567890123456789012345678901234567890.0123456789"


class Type:
    """A type: how Arrow has it, values as SQL text, and what each library makes of them."""

    def __init__(self, sql, arrow, literals, values, polars_values=None, duckdb_values=None):
        self.sql, self.arrow, self.literals, self.values = sql, arrow, literals, values
        self.polars = values if polars_values is None else polars_values
        self.duckdb = values if duckdb_values is None else duckdb_values


INTERVAL = pyarrow.MonthDayNano([14, -3, 1_000_000_000])
TYPES = [
    Type("BOOLEAN", "bool", ["true", "false"], [True, False]),
    Type("SMALLINT", "int16", ["-32768", "32767"], [-32768, 32767]),
    Type("INT", "int32", ["-2147483648", "2147483647"], [-(1 << 31), (1 << 31) - 1]),
    Type("BIGINT", "int64", ["-9223372036854775807", "9007199254740993"], [1 - (1 << 63), (1 << 53) + 1]),
    Type("SMALLINT UNSIGNED", "uint16", ["0", "65535"], [0, 65535]),
    Type("INT UNSIGNED", "uint32", ["4294967295"], [(1 << 32) - 1]),
    Type("BIGINT UNSIGNED", "uint64", ["18446744073709551615"], [(1 << 64) - 1]),
    Type("REAL", "float", ["1.5", "-0.25"], [1.5, -0.25]),
    Type("DOUBLE", "double", ["0.1", "1.7976931348623157e308"], [0.1, 1.7976931348623157e308]),
    Type("DECIMAL(10, 2)", "decimal128(10, 2)", ["'-12.50'", "'99999999.99'"], [Decimal("-12.50"), Decimal("99999999.99")]),
    Type(
        "DECIMAL(38, 10)", "decimal128(38, 10)", ["'-1234567890123456789012345678.0123456789'"],
        [Decimal("-1234567890123456789012345678.0123456789")],
    ),
    Type("TEXT", "string", ["''", "'naïve 日本語 🦀'"], ["", "naïve 日本語 🦀"]),
    Type("BYTES", "binary", ["X''", "X'0001feff'"], [b"", b"\x00\x01\xfe\xff"]),
    Type("DATE", "date32[day]", ["'0001-01-01'", "'9999-12-31'"], [datetime.date.min, datetime.date.max]),
    Type("TIME", "time64[us]", ["'00:00:00'", "'23:59:59.999999'"], [datetime.time.min, datetime.time.max]),
    Type("TIMESTAMP", "timestamp[us]", ["'2024-02-29 12:34:56.789012'"], [MOMENT]),
    Type(
        "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=+00:00]", ["'2024-02-29T14:34:56.789012+02:00'"],
        [MOMENT.replace(tzinfo=UTC)],
    ),
    Type(
        "INTERVAL", "month_day_nano_interval", ["'14 months -3 days 1 second'"], [INTERVAL],
        polars_values=[{"months": 14, "days": -3, "nanoseconds": datetime.timedelta(seconds=1)}],
        # Python has no months either: DuckDB gives 30 days for each, and has the parts when it is asked for them.
        duckdb_values=[datetime.timedelta(days=14 * 30 - 3, seconds=1)],
    ),
    Type("UUID", "string", [f"'{ID}'"], [str(ID)]),
    Type("JSON", "string", ["""'{"a":[1,{"b":null}]}'""", "'null'"], ['{"a":[1,{"b":null}]}', "null"]),
    Type("TEXT[]", "list<item: string>", ["ARRAY['a', NULL, '']"], [["a", None, ""]]),
    Type("BIGINT[][]", "list<item: list<item: int64>>", ["ARRAY[ARRAY[1, 2], ARRAY[3]]"], [[[1, 2], [3]]]),
    Type("STRUCT<a BIGINT, b TEXT>", "struct<a: int64, b: string>", ["named_struct('a', 7, 'b', 'x')"], [{"a": 7, "b": "x"}]),
]
# Wider than any number of Polars or DuckDB, which refuse it: for them it is read as text.
DECIMAL_76 = Type("DECIMAL(76, 10)", "decimal256(76, 10)", [f"'{WIDE}'"], [Decimal(WIDE)])


def table_of(number, suffix=""):
    return f"{NAMESPACE}.t{number}{suffix}"


def column(connection, sql):
    with connection.cursor() as cursor:
        return cursor.execute(sql).fetch_arrow_table()


def normal(values):
    """Moments of one time zone are equal whatever it is called."""
    return [
        value.astimezone(UTC) if isinstance(value, datetime.datetime) and value.tzinfo else value for value in values
    ]


def test_arrow_has_the_values():
    with connect() as connection:
        for number, kind in enumerate([*TYPES, DECIMAL_76]):
            run(connection, f"CREATE SHARED TABLE {table_of(number)} (id BIGINT PRIMARY KEY, v {kind.sql}) ACCESS private")
            groups = [f"({place}, {literal})" for place, literal in enumerate([*kind.literals, "NULL"])]
            run(connection, f"INSERT INTO {table_of(number)} VALUES {', '.join(groups)}")
            table = column(connection, f"SELECT v FROM {table_of(number)} ORDER BY id")
            equal(str(table.schema.field("v").type), kind.arrow, f"Arrow's type of {kind.sql}")
            equal(normal(table["v"].to_pylist()), normal([*kind.values, None]), kind.sql)


def polars_frame(connection, kind, sql):
    if kind.sql == "INTERVAL":
        # Polars 2.1 ends the process when it takes over a single batch with intervals; a table it takes.
        return polars.DataFrame(column(connection, sql))
    return polars.read_database(sql, connection)


def test_polars_has_the_values():
    with connect() as connection:
        for number, kind in enumerate(TYPES):
            frame = polars_frame(connection, kind, f"SELECT v FROM {table_of(number)} ORDER BY id")
            equal(normal(frame["v"].to_list()), normal([*kind.polars, None]), f"{kind.sql} in Polars")


def test_duckdb_has_the_values():
    with connect() as connection:
        for number, kind in enumerate(TYPES):
            with connection.cursor() as cursor:
                result = cursor.execute(f"SELECT v FROM {table_of(number)} ORDER BY id").fetch_record_batch()
                found = duckdb.sql("SELECT v FROM result").fetchall()
            equal(normal([value for (value,) in found]), normal([*kind.duckdb, None]), f"{kind.sql} in DuckDB")
            if kind.sql == "INTERVAL":
                result = column(connection, f"SELECT v FROM {table_of(number)} WHERE id = 0")
                parts = "datepart('year', v) * 12 + datepart('month', v), datepart('day', v), datepart('microsecond', v)"
                found = duckdb.sql(f"SELECT {parts} FROM result").fetchall()
                equal(found, [(14, -3, 1_000_000)], "the parts of an INTERVAL in DuckDB")


def test_pandas_has_the_values():
    with connect() as connection:
        for number, kind in enumerate([*TYPES, DECIMAL_76]):
            table = column(connection, f"SELECT v FROM {table_of(number)} ORDER BY id")
            frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
            back = pyarrow.Table.from_pandas(frame, schema=table.schema.remove_metadata(), preserve_index=False)
            assert back["v"].equals(table["v"]), f"{kind.sql} in pandas: {frame['v'].tolist()}"


def test_wide_decimals_are_exact_as_text():
    with connect() as connection:
        sql = f"SELECT CAST(v AS TEXT) AS v FROM {table_of(len(TYPES))} WHERE id = 0"
        equal(polars.read_database(sql, connection)["v"].to_list(), [WIDE])
        result = column(connection, sql)
        equal(duckdb.sql("SELECT v FROM result").fetchall(), [(WIDE,)])
        del result


def test_what_is_ingested_comes_back():
    with connect() as connection, connection.cursor() as cursor:
        for number, kind in enumerate([*TYPES, DECIMAL_76]):
            table = column(connection, f"SELECT id, v FROM {table_of(number)} ORDER BY id")
            run(connection, f"CREATE SHARED TABLE {table_of(number, 'b')} (id BIGINT PRIMARY KEY, v {kind.sql}) ACCESS private")
            equal(cursor.adbc_ingest(f"t{number}b", table, mode="append", db_schema_name=NAMESPACE), table.num_rows)
            back = column(connection, f"SELECT id, v FROM {table_of(number, 'b')} ORDER BY id")
            assert back.equals(table), f"{kind.sql}: {back.to_pydict()} where {table.to_pydict()} was sent"
            # And into a table made of the very data.
            equal(cursor.adbc_ingest(f"t{number}c", table, mode="create", db_schema_name=NAMESPACE), table.num_rows)
            made = column(connection, f"SELECT id, v FROM {table_of(number, 'c')} ORDER BY id")
            assert made["v"].equals(table["v"]), f"{kind.sql} of a table made: {made.to_pydict()}"


def test_polars_frames_come_back():
    with connect() as connection:
        for number, kind in enumerate(TYPES):
            if kind.sql == "INTERVAL":  # Polars sends the struct that it has instead.
                continue
            frame = polars.read_database(f"SELECT id, v FROM {table_of(number)} ORDER BY id", connection)
            run(connection, f"CREATE SHARED TABLE {table_of(number, 'd')} (id BIGINT PRIMARY KEY, v {kind.sql}) ACCESS private")
            name = table_of(number, "d")
            equal(frame.write_database(name, connection, engine="adbc", if_table_exists="append"), len(frame))
            equal(rows(connection, f"SELECT count(*) FROM {name}"), [(len(frame),)])
            back = polars.read_database(f"SELECT id, v FROM {name} ORDER BY id", connection)
            assert back.equals(frame), f"{kind.sql}: {back} where {frame} was written"


main(globals())
