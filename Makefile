# `make` alone prints what there is. The text after ## is the help of a target.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Jobs of one `make` share servers and two cores.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Tests wait more than they compute: three processes keep two cores busy.
WORKERS ?= 3
SPREAD := -n $(WORKERS) --durations=15 --durations-min=20
STAMP := $(VENV)/.installed

# How many seeds each seeded test runs with; SEED=N repeats one.
SEEDS ?=
seeds = $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),$(1)))

.PHONY: help venv demo test everything full lint format bench crash fuzz simulate mutants soak clean

help: ## This list
	@printf 'pgbridge: what can be made\n\n'
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## Virtual environment with everything, in .venv

$(STAMP): pyproject.toml .ci/venv
	@PYTHON='$(PYTHON)' .ci/venv $(VENV)
	@touch $@

demo: venv ## A small shop on real servers: watch documents follow rows
	@$(BIN)/pgbridge demo

test: venv lint ## What CI runs: lint and all tests but the slow, one seed each
	@$(PYTEST) $(SPREAD) -m 'not bench and not slow' $(call seeds,1)

everything: venv lint ## All tests, the slow ones too, one seed each
	@$(PYTEST) $(SPREAD) -m 'not bench' $(call seeds,1)

# What a test makes small unless it is asked for more.
FULL := KILLS=50 TRANSACTIONS=60000 ROWS=1000000 WAITS=10000 READINGS=100 VIEWS=2000 \
	TABLES=10000 ROW_BYTES=100000000

full: venv ## The tests of load, limits and luck at full size, an hour or two
	@env $(FULL:%=PGBRIDGE_TEST_%) $(PYTEST) -m 'not bench' -v $(call seeds,1) \
		tests/scenario/test_crash.py tests/scenario/test_load.py \
		tests/scenario/test_wait.py tests/scenario/test_limits.py \
		tests/scenario/test_life_kills.py tests/integration/test_determinism.py

lint: venv ## Ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: venv ## Let ruff format and fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: venv ## Measure, as ratios to the servers' own ceilings
	@$(BIN)/python -m tests.bench

crash: venv ## Every probe × fault × shape of view on real servers, as a table in docs/
	@$(BIN)/python -m tests.scenario.matrix

fuzz: venv ## Decoder, configuration, queries: inputs that reach new code (SECONDS=60)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz all $(or $(SECONDS),60)

simulate: venv ## Simulated histories (SEEDS=10000, or SEED=N to repeat one)
	@$(PYTEST) tests/simulation -q $(call seeds,10000)

mutants: venv ## Each safety rule taken out, one at a time: all must be caught
	@$(BIN)/python -m tests.simulation.mutants

soak: venv ## 30 minutes of mixed traffic and faults (MINUTES=30)
	@$(BIN)/python -m tests.bench.soak $(or $(MINUTES),30)

clean: ## Remove the virtual environment, caches and local servers' data
	@if [ -x $(BIN)/pgbridge ] && [ -d .pgbridge-dev ]; then $(BIN)/pgbridge dev down; fi
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
