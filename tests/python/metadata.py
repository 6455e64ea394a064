"""What tools ask before they show anything: servers, schemas, tables, columns."""

import re

import adbc_driver_flightsql.dbapi as flightsql

from checks import COOKIES, NAMESPACE, connect, equal, main, refused, rows, run

OTHER = NAMESPACE + "_other"


def test_the_catalog_is_made():
    with connect() as connection:
        run(connection, f"CREATE NAMESPACE {OTHER}")
        run(connection, f"CREATE SHARED TABLE {NAMESPACE}.a_b (id BIGINT PRIMARY KEY, d DECIMAL(10, 2) NOT NULL, l TEXT[]) ACCESS private")
        run(connection, f"CREATE USER TABLE {NAMESPACE}.axb (id TEXT PRIMARY KEY)")
        run(connection, f"CREATE STREAM TABLE {NAMESPACE}.typing (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), who TEXT) TTL '10 seconds'")
        run(connection, f"CREATE SHARED TABLE {OTHER}.a_b (id BIGINT PRIMARY KEY, other TEXT) ACCESS private")


def test_the_server_says_what_it_is():
    with connect() as connection:
        info = connection.adbc_get_info()
        equal(info["vendor_name"], "KalamDB")
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", info["vendor_version"]), info
        assert info["vendor_arrow_version"], info


def objects(connection, **filters):
    """Names as `schema.table`, and of each the columns."""
    found = connection.adbc_get_objects(**filters).read_all().to_pylist()
    names = {}
    for catalog in found:
        equal(catalog["catalog_name"], "kalamdb")
        for schema in catalog["catalog_db_schemas"] or []:
            for table in schema["db_schema_tables"] or [{"table_name": None}]:
                name = schema["db_schema_name"] + (f".{table['table_name']}" if table["table_name"] else "")
                names[name] = [column["column_name"] for column in table.get("table_columns") or []]
    return names


def test_objects_at_each_depth():
    with connect() as connection:
        catalogs = connection.adbc_get_objects(depth="catalogs").read_all().to_pylist()
        equal([catalog["catalog_name"] for catalog in catalogs], ["kalamdb"])
        schemas = objects(connection, depth="db_schemas")
        assert {NAMESPACE, OTHER, "system", "information_schema"} <= set(schemas), schemas
        tables = objects(connection, depth="tables", db_schema_filter=NAMESPACE)
        equal(sorted(tables), [f"{NAMESPACE}.a_b", f"{NAMESPACE}.axb", f"{NAMESPACE}.typing"])
        everything = objects(connection, depth="all", db_schema_filter=NAMESPACE)
        equal(everything[f"{NAMESPACE}.a_b"], ["id", "d", "l"])


def test_filters_are_patterns():
    with connect() as connection:
        both = objects(connection, depth="tables", db_schema_filter=NAMESPACE, table_name_filter="a_b")
        equal(sorted(both), [f"{NAMESPACE}.a_b", f"{NAMESPACE}.axb"], "what a_b matches")
        one = objects(connection, depth="tables", db_schema_filter=NAMESPACE, table_name_filter="%yping")
        equal(sorted(one), [f"{NAMESPACE}.typing"])
        typed = objects(connection, depth="tables", table_types_filter=["SYSTEM TABLE"])
        assert "system.tables" in typed and f"{NAMESPACE}.a_b" not in typed, typed
        nothing = objects(connection, depth="tables", db_schema_filter="no_such_%")
        equal(nothing, {})


def test_the_schema_of_a_table():
    with connect() as connection:
        schema = connection.adbc_get_table_schema("a_b", db_schema_filter=NAMESPACE)
        found = [(field.name, str(field.type), field.nullable) for field in schema]
        expected = [("id", "int64", False), ("d", "decimal128(10, 2)", False), ("l", "list<item: string>", True)]
        equal(found, expected)
        equal(connection.adbc_get_table_schema("a_b", db_schema_filter=OTHER).names, ["id", "other"])
        equal(connection.adbc_get_table_schema("a_b", catalog_filter="kalamdb", db_schema_filter=OTHER).names, ["id", "other"])
        with refused(kind=flightsql.Error):
            connection.adbc_get_table_schema("no_such_table", db_schema_filter=NAMESPACE)
        # The columns of a query are those of the table.
        queried = connection.cursor().adbc_execute_schema(f"SELECT * FROM {NAMESPACE}.a_b")
        equal([(field.name, str(field.type)) for field in queried], [(name, kind) for name, kind, _ in expected])


def test_types_of_tables():
    with connect() as connection:
        equal(sorted(connection.adbc_get_table_types()), ["SYSTEM TABLE", "TABLE"])


def test_the_namespace_of_a_session():
    with connect(db_kwargs=COOKIES) as connection:
        connection.adbc_current_db_schema = NAMESPACE
        equal(connection.adbc_current_db_schema, NAMESPACE)
        equal(connection.adbc_current_catalog, "kalamdb")
        equal(rows(connection, "SELECT * FROM a_b"), [])
        connection.adbc_current_db_schema = OTHER
        with connection.cursor() as cursor:
            equal([column[0] for column in cursor.execute("SELECT * FROM a_b").description], ["id", "other"])
        with refused(kind=flightsql.Error):
            connection.adbc_current_db_schema = "not a namespace"
    # Another connection has another session.
    with connect(db_kwargs=COOKIES) as connection, refused("a_b"):
        rows(connection, "SELECT * FROM a_b")


main(globals())
