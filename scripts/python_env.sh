#!/usr/bin/env bash
# A Python environment of its own in the user's cache, with pinned versions: `scripts/NAME.txt` has them, and says in its
# first line what they are for.
# `scripts/python_env.sh NAME --install` installs it from PyPI if it is not there; `scripts/python_env.sh NAME COMMAND …`
# does that, too, and runs a command that it has.
set -euo pipefail

name="$1"
shift
pins="$(cd "$(dirname "$0")" && pwd)/$name.txt"
cache="${KALAMDB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kalamdb}"
# Other pins, another environment.
environment="$cache/${name//_/-}-$(cksum <"$pins" | cut -d ' ' -f 1)"

say() { printf '%s\n' "$*" >&2; }

install() {
  local what
  what="$(sed -n '1s/^# //p' "$pins")"
  if ! command -v python3 >/dev/null || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    say "python3 with its module venv is not installed, which is needed for this: $what"
    say "Run scripts/setup.sh, or install what your system calls python3-venv."
    exit 1
  fi
  mkdir -p "$cache"
  exec 9>"$environment.lock"
  flock 9
  [ -e "$environment/complete" ] && return
  say "==> installing from PyPI: $what"
  rm -rf "$environment"
  python3 -m venv "$environment"
  if ! "$environment/bin/pip" install --quiet --no-input --disable-pip-version-check -r "$pins" </dev/null >&2; then
    rm -rf "$environment"
    say "It is not installed yet, and could not be installed from PyPI: $what"
    say "The pins in $pins want $(python3 --version 2>&1) to be one that they are published for (3.11 or later)."
    exit 1
  fi
  touch "$environment/complete"
}

[ -e "$environment/complete" ] || install
[ "${1:-}" = "--install" ] && exit 0
command="$1"
shift
exec 9>&- "$environment/bin/$command" "$@"
