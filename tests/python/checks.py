"""What the scripts share: connections, a namespace of their own, and how failures are shown.

A script is run as `python script.py HOST:PORT`. Its functions named `test_…` run in their order; each that fails is
shown with where and why, and makes the exit status 1.
"""

import contextlib
import os
import sys
import time
import traceback
import uuid

import adbc_driver_flightsql.dbapi as flightsql

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2900"
HEADER = "adbc.flight.sql.rpc.call_header."
COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
NAMESPACE = "py_" + uuid.uuid4().hex[:12]


def connect(user=None, **options):
    """A connection, acting for a user where one is named."""
    db_kwargs = dict(options.pop("db_kwargs", {}))
    if user is not None:
        db_kwargs[HEADER + "x-user-id"] = user
    options.setdefault("autocommit", True)
    return flightsql.connect(f"grpc://{ADDRESS}", db_kwargs=db_kwargs, **options)


def run(connection, sql, parameters=None):
    """Runs a statement without rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def rows(connection, sql, parameters=None):
    """All rows of a query, as tuples."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def value(connection, sql, parameters=None):
    """The one value of a query."""
    found = rows(connection, sql, parameters)
    assert len(found) == 1 and len(found[0]) == 1, f"one value expected of {sql}, not {found}"
    return found[0][0]


def equal(found, expected, what="the values"):
    """Fails, showing both, unless they are equal and of the same types."""
    assert found == expected, f"{what} are wrong\n  found:    {found!r}\n  expected: {expected!r}"
    if isinstance(found, (list, tuple)):
        for one, other in zip(found, expected):
            equal(one, other, what)
    else:
        assert type(found) is type(expected), f"{what}: {found!r} is {type(found)}, not {type(expected)}"


@contextlib.contextmanager
def refused(*words, kind=flightsql.Error):
    """The block must fail, with an error of this class whose text has all of these words."""
    try:
        yield
    except kind as error:
        text = str(error)
        missing = [word for word in words if word.lower() not in text.lower()]
        assert not missing, f"the error does not say {missing}: {text}"
        return
    except flightsql.Error as error:
        raise AssertionError(f"a {kind.__name__} is expected, not {type(error).__name__}: {error}") from error
    raise AssertionError(f"nothing was refused; an error that says {words} is expected")


def main(tests, namespace=True):
    """Makes the namespace, runs the tests of a module, and ends the process."""
    if namespace:
        with connect() as connection:
            run(connection, f"CREATE NAMESPACE {NAMESPACE}")
    failures, count = [], 0
    chosen = os.environ.get("KALAMDB_PYTHON_TESTS", "")
    for name, test in list(tests.items()):
        if not name.startswith("test_") or chosen not in name:
            continue
        count += 1
        begin = time.monotonic()
        try:
            test()
        except BaseException as error:  # A panic of a native library is none of Exception.
            if isinstance(error, KeyboardInterrupt):
                raise
            failures.append(name)
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - begin:.2f} s)", flush=True)
    if failures or not count:
        print(f"{len(failures)} of {count} failed: {', '.join(failures)}", flush=True)
        sys.exit(1)
    print(f"all {count} passed", flush=True)
