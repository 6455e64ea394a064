# KalamDB's front door. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Built files live in the user's cache, not in the clone, so that every clone and worktree shares them: the first
# build compiles RocksDB and DataFusion, which takes a while.
XDG_CACHE_HOME ?= $(HOME)/.cache
KALAMDB_CACHE := $(XDG_CACHE_HOME)/kalamdb
export CARGO_TARGET_DIR ?= $(KALAMDB_CACHE)/target
export KALAMDB_CACHE

BIN := $(CARGO_TARGET_DIR)/debug

# Everything is always built with the same selection of packages: another selection can mean other features of shared
# dependencies, and so a second build of them.
BUILD := cargo build --workspace --bins --examples

# Kills of `make crash`, `make crash-flush` and `make live-kills`.
N ?= 200
# Seconds of `make live-oracle`.
SECS ?= 600
# Further arguments of `make bench`, `make cli`, `make slt`.
ARGS ?=

.PHONY: help setup build demo test lint bench bench-ids crash crash-flush s3-server python-clients live-oracle live-races live-kills slt cli

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building needs and this machine lacks (Debian packages).
	@scripts/setup.sh

build: setup ## Build the server, the clients, the tools and the examples.
	@echo "==> building into $(CARGO_TARGET_DIR)"
	@$(BUILD)

demo: build ## Start a server, fill it, query it, restart it; at a terminal, end at the prompt.
	@"$(BIN)/examples/demo"

s3-server: setup ## Install the S3 server that the tests use, from PyPI.
	@scripts/s3_server.sh --install

python-clients: setup ## Install the Python clients that the tests use, from PyPI.
	@scripts/python_clients.sh --install

test: build s3-server python-clients ## Run every test, and the demo without a terminal.
	@echo "==> unit, property, model and end-to-end tests"
	@cargo test --workspace
	@echo "==> the demo, without a terminal"
	@"$(BIN)/examples/demo" </dev/null
	@echo "==> all tests passed"

lint: setup ## Check formatting, lints, the protocol and the layers.
	@.ci/lint

bench: build ## Measure each workload beside its physical limit (ARGS="--json FILE").
	@"$(BIN)/kalam-bench" $(ARGS)

bench-ids: build ## Measure generated ids: 8 threads, nanoseconds an id.
	@"$(BIN)/examples/generated_ids"

crash: build ## Kill the server N times under load and check every acknowledged row (N=200).
	@KALAMDB_CRASH_KILLS="$(N)" cargo test --workspace --test end_to_end -- --exact --nocapture crash::kills_under_load

crash-flush: build ## The same while everything is flushed and compacted all the time (N=200).
	@KALAMDB_CRASH_KILLS="$(N)" cargo test --workspace --test end_to_end -- --exact --nocapture crash_flush::kills_during_flushes

live-oracle: build ## Check live queries against a model and SELECT for so long (SECS=600).
	@KALAMDB_LIVE_SECONDS="$(SECS)" cargo test --workspace --test engine -- --nocapture live::oracle

live-races: N = 100000
live-races: build ## Race INSERT against SUBSCRIBE N times (N=100000).
	@KALAMDB_LIVE_RACES="$(N)" cargo test --workspace --test engine -- --nocapture live::race

live-kills: build ## Kill the server N times beside live queries that resume (N=200).
	@KALAMDB_LIVE_KILLS="$(N)" cargo test --workspace --test end_to_end -- --exact --nocapture live::kills::kills_under_load

slt: build ## Run a sqllogictest file or those below a folder (DIR=path ARGS="--tier cold").
	@[ -n "$(DIR)" ] || { echo "usage: make slt DIR=path [ARGS=--tier cold]"; exit 2; }
	@"$(BIN)/slt" $(ARGS) "$(DIR)"

cli: build ## Open the prompt of a running server (ARGS="-h host:port -u user").
	@"$(BIN)/kalam-cli" $(ARGS)
