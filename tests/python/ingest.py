"""adbc_ingest: its modes, what it refuses, and that what is refused leaves nothing."""

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow

from checks import COOKIES, HEADER, NAMESPACE, connect, equal, main, refused, rows, run, value

T = f"{NAMESPACE}.people"


def ingest(connection, table, data, mode="append", **options):
    with connection.cursor(adbc_stmt_kwargs=options or None) as cursor:
        return cursor.adbc_ingest(table, data, mode=mode, db_schema_name=NAMESPACE)


def people(first, count, **columns):
    ids = range(first, first + count)
    return pyarrow.table({"id": list(ids), "name": [f"name {i}" for i in ids], **columns})


def test_rows_are_appended():
    with connect() as connection:
        run(
            connection,
            f"CREATE SHARED TABLE {T} (id BIGINT PRIMARY KEY, name TEXT NOT NULL, age INT DEFAULT 18, "
            "seen TIMESTAMP DEFAULT NOW()) ACCESS private",
        )
        equal(ingest(connection, "people", people(0, 3)), 3)
        # Columns in another order, a narrower type, one that has a default given.
        other = pyarrow.table({"age": pyarrow.array([40], pyarrow.int16()), "name": ["Ada"], "id": [100]})
        equal(ingest(connection, "people", other), 1)
        equal(
            rows(connection, f"SELECT id, name, age FROM {T} ORDER BY id"),
            [(0, "name 0", 18), (1, "name 1", 18), (2, "name 2", 18), (100, "Ada", 40)],
        )
        equal(value(connection, f"SELECT count(*) FROM {T} WHERE seen IS NULL"), 0)
        # The driver sends nothing at all of a table without batches, not even where it was to go.
        with refused("without a message"):
            ingest(connection, "people", people(0, 0))


def test_texts_may_be_of_every_arrow_type():
    names = ["a", "naïve 🦀", "a"]
    kinds = [
        pyarrow.array(names, pyarrow.large_string()),
        pyarrow.array(names).cast(pyarrow.string_view()),
        pyarrow.array(names).dictionary_encode(),
    ]
    with connect() as connection:
        for number, column in enumerate(kinds):
            first = 200 + 10 * number
            table = pyarrow.table({"id": range(first, first + 3), "name": column})
            equal(ingest(connection, "people", table), 3, f"rows of {column.type}")
            found = rows(connection, f"SELECT name FROM {T} WHERE id >= {first} AND id < {first + 10} ORDER BY id")
            equal(found, [(name,) for name in names])


def test_many_batches_are_one_ingest():
    schema = pyarrow.schema({"id": pyarrow.int64(), "name": pyarrow.string()})
    batches = (people(1_000_000 + 5_000 * number, 5_000).to_batches()[0] for number in range(40))
    reader = pyarrow.RecordBatchReader.from_batches(schema, batches)
    with connect() as connection:
        equal(ingest(connection, "people", reader), 200_000)
        equal(value(connection, f"SELECT count(*) FROM {T} WHERE id >= 1000000"), 200_000)
        equal(value(connection, f"SELECT count(DISTINCT seen) FROM {T} WHERE id >= 1000000"), 1, "moments of one ingest")


def test_what_does_not_fit_is_refused_by_name():
    with connect() as connection:
        before = rows(connection, f"SELECT count(*), sum(id) FROM {T}")
        for words, table in [
            (["colour"], people(5000, 2, colour=["red", "blue"])),
            (["name"], pyarrow.table({"id": [5000]})),
            (["age", "INT"], people(5000, 2, age=["young", "old"])),
            (["id"], pyarrow.table({"name": ["nobody"], "age": pyarrow.array([1], pyarrow.int32())})),
            (["age"], people(5000, 2, age=pyarrow.array([1, 1 << 40]))),
            (["name", "1"], pyarrow.table({"id": [5000, 5001], "name": ["a", None]})),
            (["id", "1"], pyarrow.table({"id": pyarrow.array([5000, None], pyarrow.int64()), "name": ["a", "b"]})),
        ]:
            with refused(*words):
                ingest(connection, "people", table)
        with refused("no_such_table", kind=flightsql.ProgrammingError):
            ingest(connection, "no_such_table", people(0, 1))
        equal(rows(connection, f"SELECT count(*), sum(id) FROM {T}"), before, "what refused ingests left")


def test_keys_that_are_twice_name_their_row():
    with connect() as connection:
        before = rows(connection, f"SELECT count(*), sum(id) FROM {T}")
        # In the data: rows 3 and 7 of two batches.
        twice = pyarrow.table({"id": [6000, 6001, 6002, 6003, 6004, 6005, 6006, 6003], "name": ["x"] * 8})
        reader = pyarrow.RecordBatchReader.from_batches(twice.schema, twice.to_batches(max_chunksize=5))
        with refused("6003", "7", kind=flightsql.ProgrammingError):
            ingest(connection, "people", reader)
        # In the table.
        with refused("100", "2", kind=flightsql.ProgrammingError):
            ingest(connection, "people", pyarrow.table({"id": [6000, 6001, 100], "name": ["x"] * 3}))
        equal(rows(connection, f"SELECT count(*), sum(id) FROM {T}"), before, "what refused ingests left")


def test_a_table_is_created():
    with connect() as connection:
        equal(ingest(connection, "made", people(0, 3, size=[0.5, None, 2.5]), mode="create"), 3)
        equal(
            rows(connection, f"SELECT * FROM {NAMESPACE}.made ORDER BY id"),
            [(0, "name 0", 0.5), (1, "name 1", None), (2, "name 2", 2.5)],
        )
        with refused("exists", kind=flightsql.ProgrammingError):
            ingest(connection, "made", people(3, 3, size=[1.0] * 3), mode="create")
        equal(ingest(connection, "made", people(3, 3, size=[1.0] * 3), mode="create_append"), 3)
        equal(ingest(connection, "made_too", people(0, 2), mode="create_append"), 2)
        equal(value(connection, f"SELECT count(*) FROM {NAMESPACE}.made"), 6)
        # The column `id` is the key.
        with refused("already"):
            run(connection, f"INSERT INTO {NAMESPACE}.made (id) VALUES (0)")


def test_a_table_of_data_without_a_key_gets_one():
    with connect() as connection:
        equal(ingest(connection, "keyless", pyarrow.table({"city": ["Oslo", "Rome"]}), mode="create"), 2)
        found = rows(connection, f"SELECT id, city FROM {NAMESPACE}.keyless ORDER BY city")
        equal([city for _, city in found], ["Oslo", "Rome"])
        assert found[0][0] != found[1][0], found
        equal(ingest(connection, "keyless", pyarrow.table({"city": ["Bern"]})), 1)
        equal(value(connection, f"SELECT count(DISTINCT id) FROM {NAMESPACE}.keyless"), 3)


def test_options_are_those_of_the_session():
    option = "adbc.flight.sql.session.option.kalamdb.ingest."
    with connect(db_kwargs=COOKIES) as connection:
        connection.adbc_connection.set_options(**{option + "primary_key": "code", option + "access": "public"})
        data = pyarrow.table({"code": ["no", "it"], "country": ["Norway", "Italy"]})
        equal(ingest(connection, "countries", data, mode="create"), 2)
        with refused("already"):
            run(connection, f"INSERT INTO {NAMESPACE}.countries VALUES ('no', 'again')")
    # Public: every user may read it.
    with connect(user="alice") as connection:
        equal(rows(connection, f"SELECT country FROM {NAMESPACE}.countries WHERE code = 'it'"), [("Italy",)])


def test_a_table_that_failed_to_fill_is_not_made():
    with connect() as connection:
        with refused("7"):
            ingest(connection, "unmade", pyarrow.table({"id": [7, 7]}), mode="create")
        with refused("unmade"):
            rows(connection, f"SELECT * FROM {NAMESPACE}.unmade")


def test_what_is_not_supported_is_refused_by_name():
    with connect() as connection:
        with refused("replac"):
            ingest(connection, "people", people(0, 1), mode="replace")
        with connection.cursor() as cursor, refused("temporary"):
            cursor.adbc_ingest("people", people(7000, 1), mode="append", temporary=True)
        with connection.cursor() as cursor, refused("catalog"):
            cursor.adbc_ingest("people", people(7000, 1), mode="append", catalog_name="elsewhere", db_schema_name=NAMESPACE)
        equal(value(connection, f"SELECT count(*) FROM {T} WHERE id = 7000"), 0)


def test_each_user_has_rows_of_their_own():
    table = f"{NAMESPACE}.notes"
    with connect() as connection:
        run(connection, f"CREATE USER TABLE {table} (id BIGINT PRIMARY KEY, body TEXT)")
    for user in ("alice", "bob"):
        with connect(user=user) as connection:
            equal(ingest(connection, "notes", pyarrow.table({"id": [1, 2], "body": [user, user]})), 2)
            equal(rows(connection, f"SELECT DISTINCT body FROM {table}"), [(user,)])
    # One cursor can act for another user than its connection.
    with connect() as connection:
        data = pyarrow.table({"id": [1], "body": ["carol"]})
        equal(ingest(connection, "notes", data, **{HEADER + "x-user-id": "carol"}), 1)
        # And operators may send the rows of many users at once.
        users = [f"user {number % 100}" for number in range(1000)]
        many = pyarrow.table({"_user_id": users, "id": range(1000), "body": users})
        equal(ingest(connection, "notes", many), 1000)
        found = rows(connection, f"SELECT _user_id, count(*) FROM {NAMESPACE}.all_users.notes GROUP BY _user_id")
        expected = {f"user {number}": 10 for number in range(100)} | {"alice": 2, "bob": 2, "carol": 1}
        equal(dict(found), expected)
        equal(value(connection, f"SELECT count(*) FROM {NAMESPACE}.all_users.notes WHERE body <> _user_id"), 0)
    with connect(user="user 7") as connection:
        equal(value(connection, f"SELECT count(*) FROM {table}"), 10)


main(globals())
