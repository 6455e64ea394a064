#!/usr/bin/env python3
"""Checks that the workspace's dependencies point one way.

Reads `cargo metadata`. Every crate of the workspace may depend on the crates listed for it and on no other crate of
the workspace; and the crates that carry a technology (RocksDB, tonic, a terminal) are named, so that none leaks.
"""

import json
import subprocess
import sys

# Who may use whom. Dev-dependencies count: a test that needs a higher layer belongs to that layer.
MAY_USE = {
    "kalamdb-proto": set(),
    "kalamdb-store": set(),
    "kalamdb-engine": {"kalamdb-store"},
    "kalamdb-server": {"kalamdb-engine", "kalamdb-proto"},
    "kalam-link": {"kalamdb-proto"},
    "kalam-cli": {"kalam-link"},
    # The limits that bench measures beside the server carry the same messages.
    "kalam-bench": {"kalam-link", "kalamdb-proto"},
    "kalamdb-tests": {"kalam-link", "kalamdb-proto"},
}

# Technologies, and the only crates that may name them.
ONLY_IN = {
    "rocksdb": {"kalamdb-store", "kalam-bench"},
    # kalam-link writes rows that were read in bulk to files.
    "parquet": {"kalamdb-store", "kalam-link"},
    # The engine hands storages from the store to DataFusion.
    "object_store": {"kalamdb-store", "kalamdb-engine"},
    # The engine's interface speaks DataFusion's scalar values and Arrow's batches.
    "datafusion": {"kalamdb-engine", "kalamdb-server", "kalam-bench"},
    "tonic": {"kalamdb-proto", "kalamdb-server", "kalam-link", "kalam-bench", "kalamdb-tests"},
    "prost": {"kalamdb-proto", "kalamdb-server", "kalam-link", "kalam-bench", "kalamdb-tests"},
    "reedline": {"kalam-cli"},
    "comfy-table": {"kalam-cli", "kalam-bench"},
}


def main() -> int:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["name"]: package for package in metadata["packages"]}
    problems = []
    for name, package in sorted(packages.items()):
        if name not in MAY_USE:
            problems.append(f"{name} has no place among the layers; add it to scripts/check_layers.py")
            continue
        for dependency in package["dependencies"]:
            other = dependency["name"]
            if other in packages and other not in MAY_USE[name]:
                allowed = ", ".join(sorted(MAY_USE[name])) or "no crate of the workspace"
                problems.append(f"{name} uses {other}, but may use only: {allowed}")
            # Tests may check what a technology did; what is shipped may not name it.
            if dependency["kind"] != "dev" and name not in ONLY_IN.get(other, {name}):
                problems.append(f"{name} uses {other}, which belongs to: {', '.join(sorted(ONLY_IN[other]))}")
    for problem in problems:
        print(f"layers: {problem}", file=sys.stderr)
    if not problems:
        print(f"layers: {len(packages)} crates, every dependency points the right way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
