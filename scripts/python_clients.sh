#!/usr/bin/env bash
# Python with the Arrow clients that the tests and docs/quickstart/python.md use: ADBC, pandas, Polars, DuckDB.
# `scripts/python_clients.sh --install` installs them if they are not there; with other arguments, runs Python with them:
# `scripts/python_clients.sh tests/python/dbapi.py 127.0.0.1:2900`.
set -euo pipefail

environment="$(dirname "$0")/python_env.sh"
[ "${1:-}" = "--install" ] && exec "$environment" python_clients --install
# Leaves no files in the clone.
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec "$environment" python_clients python "$@"
