#!/usr/bin/env bash
# Installs what building and testing KalamDB needs and this machine lacks: a C++ compiler and libclang for RocksDB, make,
# pkg-config, Python with venv for what the tests need of it. Does nothing, and asks for nothing, when all is there.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

if ! command -v cargo >/dev/null; then
  say "Rust is not installed: there is no 'cargo' on the PATH. See https://rustup.rs"
  exit 1
fi

# bindgen loads libclang at build time; any version will do.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return 0
  compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && return 0
  compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

# bindgen also needs clang's own headers (stddef.h), which come with clang or libclang-common.
has_clang_headers() {
  command -v clang >/dev/null || compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
}

has_python_venv() {
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null
}

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
command -v pkg-config >/dev/null || missing+=(pkg-config)
has_libclang || missing+=(libclang-dev)
has_clang_headers || missing+=(clang)
has_python_venv || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0

say "==> missing here: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  say "This script installs packages with apt-get only. Please install what your system calls: ${missing[*]}"
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    say "Please run as root:  apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
  fi
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -qy --no-install-recommends "${missing[@]}"; } </dev/null >&2; then
  say "Could not install: ${missing[*]}. Please install them and run make again."
  exit 1
fi
