#!/usr/bin/env bash
# The S3 server of the tests: moto's, with pinned versions, in a Python environment of its own in the user's cache.
# `scripts/s3_server.sh --install` installs it from PyPI if it is not there; with other arguments, starts it with them:
# `scripts/s3_server.sh -H 127.0.0.1 -p 0`.
set -euo pipefail

pins="$(cd "$(dirname "$0")" && pwd)/s3_server.txt"
cache="${KALAMDB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kalamdb}"
# Other pins, another environment.
environment="$cache/s3-server-$(cksum <"$pins" | cut -d ' ' -f 1)"

say() { printf '%s\n' "$*" >&2; }

install() {
  if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    say "The S3 server of the tests is written in Python, and python3 with its module venv is not installed."
    say "Run scripts/setup.sh, or install what your system calls python3-venv."
    exit 1
  fi
  mkdir -p "$cache"
  exec 9>"$environment.lock"
  flock 9
  [ -e "$environment/complete" ] && return
  say "==> installing the S3 server of the tests from PyPI"
  rm -rf "$environment"
  python3 -m venv "$environment"
  if ! "$environment/bin/pip" install --quiet --no-input --disable-pip-version-check -r "$pins" </dev/null >&2; then
    rm -rf "$environment"
    say "The S3 server of the tests (moto) could not be installed from PyPI, and it is not installed yet."
    exit 1
  fi
  touch "$environment/complete"
}

[ -e "$environment/complete" ] || install
[ "${1:-}" = "--install" ] && exit 0
exec 9>&- "$environment/bin/moto_server" "$@"
