"""Who calls: `python identity.py HOST:PORT`, of a server that wants credentials. The keys of the users `alice` (role user)
and `robot` (role service) are in KALAMDB_KEY_ALICE and KALAMDB_KEY_ROBOT; alice's password is in KALAMDB_PASSWORD_ALICE;
alice may use the USER table `app.notes`."""

import os

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow

from checks import HEADER, connect, equal, main, refused, rows, run, value

ALICE, ROBOT = os.environ["KALAMDB_KEY_ALICE"], os.environ["KALAMDB_KEY_ROBOT"]
PASSWORD = os.environ["KALAMDB_PASSWORD_ALICE"]
KEY = HEADER + "x-api-key"


def who(**db_kwargs):
    with connect(db_kwargs=db_kwargs) as connection:
        return value(connection, "SELECT CURRENT_USER()")


def test_an_api_key_as_a_header():
    equal(who(**{KEY: ALICE}), "alice")


def test_a_user_and_its_password():
    equal(who(username="alice", password=PASSWORD), "alice")


def test_an_api_key_in_place_of_a_password():
    equal(who(username="token", password=ALICE), "alice")


def test_a_service_acts_for_users():
    with connect(db_kwargs={KEY: ROBOT}, user="bob") as connection:
        equal(value(connection, "SELECT CURRENT_USER()"), "bob")
        with connection.cursor() as cursor:
            data = pyarrow.table({"id": [1, 2], "body": ["of bob", "too"]})
            equal(cursor.adbc_ingest("notes", data, mode="append", db_schema_name="app"), 2)
        equal(value(connection, "SELECT count(*) FROM app.notes"), 2)
    with connect(db_kwargs={KEY: ALICE}) as connection:
        equal(rows(connection, "SELECT * FROM app.notes"), [])
        run(connection, "INSERT INTO app.notes VALUES (1, 'of alice')")
        # She acts for nobody else, whatever she says.
        with connection.cursor(adbc_stmt_kwargs={HEADER + "x-user-id": "bob"}) as cursor, refused("act for another user"):
            cursor.execute("SELECT * FROM app.notes").fetchall()
        with connection.cursor() as cursor, refused("_user_id"):
            mixed = pyarrow.table({"_user_id": ["bob"], "id": [3], "body": ["smuggled"]})
            cursor.adbc_ingest("notes", mixed, mode="append", db_schema_name="app")
    with connect(db_kwargs={KEY: ROBOT}, user="bob") as connection:
        equal(rows(connection, "SELECT id, body FROM app.notes ORDER BY id"), [(1, "of bob"), (2, "too")])


def test_a_ticket_is_of_one_user_alone():
    with connect(db_kwargs={KEY: ALICE}) as connection:
        partitions, _ = connection.cursor().adbc_execute_partitions("SELECT body FROM app.notes")
    with connect(db_kwargs={KEY: ROBOT}) as other, other.cursor() as cursor:
        with refused(kind=flightsql.Error):
            cursor.adbc_read_partition(partitions[0])
            cursor.fetchall()


def test_who_does_not_say_who_is_refused():
    for db_kwargs in (
        {},
        {KEY: ALICE[:-1] + ("a" if ALICE[-1] != "a" else "b")},
        {"username": "alice", "password": PASSWORD + "!"},
        {"adbc.flight.sql.authorization_header": "Bearer nonsense"},
        {"adbc.flight.sql.authorization_header": "Basic nonsense"},
    ):
        with refused(kind=flightsql.Error):
            who(**db_kwargs)


main(globals(), namespace=False)
