#!/usr/bin/env bash
# Runs buf, of a pinned version, from the user's cache: `scripts/buf.sh lint`. Downloads it from npm the first time.
set -euo pipefail

version=1.75.0
cache="${KALAMDB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kalamdb}/buf-$version"
if [ ! -x "$cache/node_modules/.bin/buf" ]; then
  command -v npm >/dev/null || { echo "buf comes from npm (@bufbuild/buf), and there is no npm on the PATH" >&2; exit 1; }
  mkdir -p "$cache"
  npm install --silent --no-fund --no-audit --prefix "$cache" "@bufbuild/buf@$version" </dev/null >&2
fi
exec "$cache/node_modules/.bin/buf" "$@"
