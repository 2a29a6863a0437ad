# Everything is one command: `make up` serves, `make test` checks. Each sets up .venv on first use
# and again when pyproject.toml or a lock changes. GNU make 3.81 (macOS) is enough.

VENV   := .venv
BIN    := $(VENV)/bin
SETUP  := pyproject.toml requirements.lock requirements-dev.lock scripts/setup.py
# pytest processes: `make test JOBS=2`
JOBS   ?= auto
# Options of the command that a target runs: `make up ARGS="--port 9000"`
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help install up test soak fuzz lint format bench lock clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "make %-9s %s\n", $$1, $$2 }'

install: $(VENV)/.installed-dev  ## create .venv with everything, for development

up: $(VENV)/.installed-runtime  ## serve the demo model as a two-rank cluster (ARGS="--port 9000")
	@$(BIN)/tandem up --ranks 2 $(ARGS)

test: lint  ## check everything: format, lint, types, layers, tests (ARGS="-k name")
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# One process: what is measured here shares the machine with nothing. Some twenty minutes.
soak: $(VENV)/.installed-dev  ## before a release: faults, load and benchmarks for real minutes (ARGS="-k storm")
	$(BIN)/python -m pytest tests/soak $(ARGS)

fuzz: $(VENV)/.installed-dev  ## feed a million odd inputs to each parser (ARGS="templates --runs 10000")
	$(BIN)/python -m fuzz $(ARGS)

lint: $(VENV)/.installed-dev  ## check format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev  ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## compare two ranks with one, measure a service, run the load scenarios
	$(BIN)/tandem bench cluster
	$(BIN)/python -m benchmarks service $(ARGS)
	$(BIN)/tandem bench scenarios

lock:  ## pin versions and hashes again, and say so in the SBOM (ARGS=--upgrade for the newest)
	@python=$$(sh scripts/find-python) && "$$python" scripts/lock.py $(ARGS)

clean:  ## remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts benchmarks fuzz -name __pycache__ -type d -prune -exec rm -rf {} +

# A development set-up has all that the runtime needs; the reverse stamp is set by setup.py.
$(VENV)/.installed-runtime: $(SETUP)
	@python=$$(sh scripts/find-python) && "$$python" scripts/setup.py $(VENV) torch

$(VENV)/.installed-dev: $(SETUP)
	@python=$$(sh scripts/find-python) && "$$python" scripts/setup.py $(VENV) torch dev
