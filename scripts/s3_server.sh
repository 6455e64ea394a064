#!/usr/bin/env bash
# The S3 server of the tests: moto's.
# `scripts/s3_server.sh --install` installs it if it is not there; with other arguments, starts it with them:
# `scripts/s3_server.sh -H 127.0.0.1 -p 0`.
set -euo pipefail

environment="$(dirname "$0")/python_env.sh"
[ "${1:-}" = "--install" ] && exec "$environment" s3_server --install
exec "$environment" s3_server moto_server "$@"
