# Commands of the platform. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PYTHON ?=
PORT ?= 3000
WORKERS ?= 2
ARGUMENTS ?=
SCREENSHOTS ?= docs/screenshots
BIN := .venv/bin
HOME_OF_DAGSTER := $(CURDIR)/data/dagster_home
# A shell in the background ignores interrupts and hands that on; Dagster couldn't be ended then. GNU's env undoes it.
INTERRUPTIBLE := $(shell env --default-signal=INT,TERM true 2>/dev/null && echo env --default-signal=INT,TERM)
export PYTHONUTF8 := 1
# Dozens of processes start: their modules are compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# Never the home of another Dagster on this machine. Tests make their own.
demo dev worker: export DAGSTER_HOME := $(HOME_OF_DAGSTER)

.PHONY: help
help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: setup
setup: .venv/.locked ## install the locked packages into .venv (again only when the locks change)
	@:

.venv/.locked: requirements.lock requirements-bootstrap.lock
	@scripts/setup.sh

.PHONY: demo
demo: setup ingestion.env $(HOME_OF_DAGSTER)/dagster.yaml ## land 60 stores x 7 days with every trouble, run the whole path, tell what happened
	@$(BIN)/python -m ingestion_platform.demo run

.PHONY: dev
dev: setup ingestion.env $(HOME_OF_DAGSTER)/dagster.yaml ## open Dagster's UI on the data (PORT=3000)
	@echo "dev: http://127.0.0.1:$(PORT) (ctrl-C ends it)"
	@mkdir -p data/landing
	@exec $(INTERRUPTIBLE) $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

.PHONY: worker
worker: setup ingestion.env $(HOME_OF_DAGSTER)/dagster.yaml ## follow the streams of INGESTION_STREAMS without end; Dagster's UI shows what lands
	@mkdir -p data/landing
	@exec $(INTERRUPTIBLE) $(BIN)/python -m ingestion_platform worker

# Two processes that find an empty home at once can break it for good: one fills it first.
$(HOME_OF_DAGSTER)/dagster.yaml: deploy/dagster.yaml .venv/.locked
	@mkdir -p $(@D)
	@cp deploy/dagster.yaml $@.new
	@mv $@.new $@
	@report=$$($(BIN)/dagster instance info 2>&1) || { echo "$$report" >&2; rm -f $@; exit 1; }

ingestion.env:
	@cp demo.env ingestion.env
	@echo "made ingestion.env from demo.env: settings for the demo; set a secret INGESTION_PII_SALT of your own before real data"

.PHONY: test
test: setup ## run every test
	@$(BIN)/python -m pytest -q -n $(WORKERS)

.PHONY: chaos
chaos: setup ## put the path through every fault we know of, and hold it against a run without any (ARGUMENTS="--dataset sales --seed 7")
	@$(BIN)/python -u -m ingestion_platform chaos $(ARGUMENTS)

.PHONY: check
check: setup ## what CI runs: format, lint, types, imports between rooms, tests
	@echo "check: format"; $(BIN)/ruff format --quiet --check . || { echo "check: not formatted (hint: make format)" >&2; exit 1; }
	@$(MAKE) lint types test

.PHONY: lint
lint: setup ## ruff, and who may import whom
	@echo "check: lint"; $(BIN)/ruff check --quiet .
	@echo "check: imports between rooms"
	@report=$$($(BIN)/lint-imports 2>&1) || { echo "$$report" >&2; exit 1; }

.PHONY: types
types: setup ## mypy, strict
	@echo "check: types"; $(BIN)/mypy --no-error-summary

.PHONY: format
format: setup ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock" $(LOCK_OPTIONS)

.PHONY: lock
lock: setup ## lock what pyproject.toml asks for (LOCK_OPTIONS=--upgrade for the newest)
	@$(UV_COMPILE) pyproject.toml --group dev -o requirements.lock
	@echo uv | $(UV_COMPILE) - -o requirements-bootstrap.lock
	@$(UV_COMPILE) benchmarks/dlt.in -o benchmarks/dlt.lock
	@$(MAKE) setup

.servers/dlt/.locked: benchmarks/dlt.lock .venv/.locked
	@echo "bench: dlt, which the platform is held against, goes into .servers/dlt"
	@rm -rf .servers/dlt; $(BIN)/python -m venv .servers/dlt
	@UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=.servers/dlt $(BIN)/uv pip install --quiet --require-hashes -r benchmarks/dlt.lock
	@touch $@

.PHONY: bench
bench: setup .servers/dlt/.locked ## measure the suite against DuckDB, Dagster and dlt, and write its tables (an hour on a quiet machine, 8 GB of disk; ARGUMENTS=--quick: minutes)
	@mkdir -p data
	@$(BIN)/python -u benchmarks/suite.py --json data/bench.json $(ARGUMENTS)
	@$(BIN)/python benchmarks/table.py data/bench.json

.PHONY: bench-sources
bench-sources: setup ## measure streams, captures, extracts, changes, an API, polluted files and memory against baselines (half an hour)
	@scripts/servers/kafka.sh && scripts/servers/kinesalite.sh && scripts/servers/postgres.sh && scripts/servers/mariadb.sh
	@for one in replay kafka kinesis postgres mariadb extract changes adoption fetch pollock states small_loads live; do echo; echo "## $$one"; $(BIN)/python benchmarks/$$one.py || exit 1; done
	@echo; echo "## memory (all formats and 2 GB: benchmarks/memory.py, half an hour more)"; $(BIN)/python benchmarks/memory.py --megabytes 10 200

.PHONY: screenshots
screenshots: setup ## photograph a running `make dev` (PORT=3000; needs Debian's chromium and chromium-driver)
	@$(BIN)/python scripts/screenshot.py http://127.0.0.1:$(PORT) $(SCREENSHOTS) --page stream=/assets/landing/pos

.PHONY: clean
clean: ## remove .venv and caches; data/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +
	@echo "removed .venv and caches; data/ is untouched (make clean-data removes it)"

.PHONY: clean-data
clean-data: ## remove data/: landing zone, warehouse, Dagster's history
	@if [ -d data ]; then du -sh data | sed 's/^/removing /'; fi
	@rm -rf data
