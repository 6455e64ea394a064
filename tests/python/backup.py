"""A directory of backups as DuckDB sees it: the script that is in it makes a view of each table, and each has the rows
that the server had.

    python backup.py HOST:PORT FOLDER     the server's folder of backups
"""

import os
import sys

import duckdb

from checks import NAMESPACE, connect, equal, main, rows, run

FOLDER = sys.argv[2]


def fill(connection):
    table = f"{NAMESPACE}.messages"
    run(connection, f"CREATE USER TABLE {table} (id BIGINT PRIMARY KEY, body TEXT NOT NULL, n INT)")
    run(connection, f"CREATE SHARED TABLE {NAMESPACE}.facts (id TEXT PRIMARY KEY, price DECIMAL(10, 2), created TIMESTAMP)")
    run(connection, f"CREATE SHARED TABLE {NAMESPACE}.empty (id BIGINT PRIMARY KEY, tags TEXT[])")
    run(connection, f"CREATE STREAM TABLE {NAMESPACE}.events (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID()) TTL '1 hour'")
    for user in ("ana", "../bo"):
        with connect(user=user) as own:
            values = ", ".join(f"({i}, 'row {i} of {user}', {i})" for i in range(100))
            run(own, f"INSERT INTO {table} VALUES {values}")
    values = ", ".join(f"('fact {i:03}', {i}.25, '2026-01-02 03:04:05.{i:06}')" for i in range(50))
    run(connection, f"INSERT INTO {NAMESPACE}.facts VALUES {values}")
    run(connection, f"FLUSH ALL TABLES IN {NAMESPACE} FORCE")


def change(connection):
    """What makes rows of several schema versions, deletion marks and hot rows."""
    table = f"{NAMESPACE}.messages"
    run(connection, f"ALTER TABLE {table} ADD COLUMN mood TEXT DEFAULT 'it''s fine'")
    run(connection, f"ALTER TABLE {table} RENAME COLUMN n TO number")
    with connect(user="ana") as own:
        run(own, f"UPDATE {table} SET body = 'changed' WHERE id % 7 = 0")
        run(own, f"DELETE FROM {table} WHERE id % 11 = 3")
    run(connection, f"FLUSH TABLE {table} FORCE")
    run(connection, f"ALTER TABLE {table} DROP COLUMN number")
    with connect(user="../bo") as own:
        run(own, f"INSERT INTO {table} (id, body, mood) VALUES (1000, 'hot', NULL)")
        run(own, f"DELETE FROM {table} WHERE id < 5")
    run(connection, f"DELETE FROM {NAMESPACE}.facts WHERE id < 'fact 010'")


def views():
    """DuckDB, with the views of the newest backup."""
    folder = os.path.join(FOLDER, NAMESPACE)
    os.chdir(folder)
    database = duckdb.connect()
    with open("duckdb.sql", encoding="utf-8") as script:
        database.execute(script.read())
    return database


def same(connection, database):
    messages = f"SELECT _user_id, id, body, mood FROM {NAMESPACE}.{{}}messages ORDER BY 1, 2"
    facts = f"SELECT id, price, created FROM {NAMESPACE}.facts ORDER BY 1"
    for of_server, of_duckdb in ((messages.format("all_users."), messages.format("")), (facts, facts)):
        expected = [tuple(row) for row in rows(connection, of_server)]
        equal(database.execute(of_duckdb).fetchall(), expected, of_duckdb)
        assert expected, of_server


def test_the_views_have_the_rows_of_the_server():
    with connect() as connection:
        fill(connection)
        change(connection)
        run(connection, f"BACKUP DATABASE {NAMESPACE} TO '{NAMESPACE}'")
        database = views()
        same(connection, database)
        shown = [row[0] for row in database.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1", [NAMESPACE]).fetchall()]
        equal(shown, ["empty", "facts", "messages"], "the views")
        equal(database.execute(f"SELECT id, tags FROM {NAMESPACE}.empty").fetchall(), [])
        seqs = rows(connection, f"SELECT max(_seq) FROM {NAMESPACE}.facts")
        equal(database.execute(f"SELECT max(_seq) FROM {NAMESPACE}.facts").fetchall(), [tuple(row) for row in seqs])


def test_the_views_are_those_of_the_newest_backup():
    with connect() as connection:
        with connect(user="ana") as own:
            run(own, f"DELETE FROM {NAMESPACE}.messages WHERE id < 50")
            run(own, f"INSERT INTO {NAMESPACE}.messages (id, body) VALUES (2000, 'after the first')")
        run(connection, f"FLUSH TABLE {NAMESPACE}.messages FORCE")
        run(connection, f"BACKUP DATABASE {NAMESPACE} TO '{NAMESPACE}' MODE INCREMENTAL")
        same(connection, views())


def test_files_can_be_checked_without_kalamdb():
    """Every line of the lists has the SHA-256 of its file; so have the manifest's lists, and its first line its own."""
    import hashlib
    import json

    folder = os.path.join(FOLDER, NAMESPACE)
    backups = sorted(os.listdir(os.path.join(folder, "backups")))
    equal(len(backups), 2)

    def digest(content):
        return hashlib.sha256(content).hexdigest()

    def read(path):
        with open(os.path.join(folder, path), "rb") as file:
            return file.read()

    for backup in backups:
        first, rest = read(f"backups/{backup}/backup.json").split(b"\n", 1)
        equal(first.decode(), '{"sha256": "' + digest(rest) + '",')
        manifest = json.loads(first + b"\n" + rest)
        files = 0
        for part in manifest["files"] + manifest["marks"]:
            equal(digest(read(part["path"])), part["sha256"], part["path"])
        for part in manifest["files"]:
            for line in read(part["path"]).splitlines():
                line = json.loads(line)
                content = read(line["path"])
                equal((len(content), digest(content)), (line["bytes"], line["sha256"]), line["path"])
                files += 1
        equal(files, manifest["totals"]["files"])


main(globals())
