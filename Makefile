PYTHON ?= python3
ROWS ?= 100000
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --group build
EXTRAS := --extra all
NPM := tests/interop tests/openapi/tools
PYRIGHT := tests/interop/node_modules/.bin/pyright

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run demo reset test lint format docs bench mutants lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/run.stamp ## Create .venv with the locked dependencies and apex itself

run: install ## Serve the CRM API with demo data
	$(BIN)/apex demo --serve

demo: install ## Load demo data: make demo ROWS=100000
	$(BIN)/apex demo --rows $(ROWS)

reset: ## Delete the demo's database; stop the server first
	rm -rf var

test: .venv/test.stamp .venv/npm.stamp ## Run the tests: make test ARGS="-k query"
	$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

lint: .venv/test.stamp .venv/npm.stamp ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy & $(PYRIGHT); status=$$?; wait $$! && exit $$status
	$(BIN)/python -P tests/completeness.py
	$(BIN)/pytest --quiet tests/test_layers.py
	$(BIN)/apex permissions --check permissions.lock

format: .venv/test.stamp ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/test.stamp ## Build the documentation into build/docs
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs build/docs

bench: .venv/bench.stamp ## Measure the speed beside Feathers and FastAPI: make bench ARGS="proof --rounds 3"
	@command -v npm >/dev/null || { echo "npm not found: install Node 20 or newer" >&2; exit 1; }
	@command -v wrk >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk; } || \
		{ echo "wrk not found: install it" >&2; exit 1; }
	$(BIN)/python -m benchmarks $(ARGS)

mutants: .venv/mutants.stamp ## Change modules to test their tests: make mutants ARGS="hooks/tenancy.py"
	$(BIN)/python -P tests/mutants.py $(ARGS)

lock: .venv/venv.stamp ## Resolve the lock files again
	$(PIP) install uv
	$(LOCK) --output-file requirements/run.txt $(EXTRAS) pyproject.toml
	$(LOCK) --output-file requirements/test.txt --constraint requirements/run.txt $(EXTRAS) --extra test pyproject.toml
	$(LOCK) --output-file requirements/bench.txt --constraint requirements/test.txt --extra bench pyproject.toml
	$(LOCK) --output-file requirements/mutants.txt --constraint requirements/test.txt --extra mutants pyproject.toml

clean: ## Remove .venv, caches and build output
	rm -rf .venv $(NPM:=/node_modules) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/venv.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("$(PYTHON) is too old: apex needs Python 3.11 or newer")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/run.stamp: .venv/venv.stamp requirements/run.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test.stamp: .venv/run.stamp requirements/test.txt
	$(PIP) install --require-hashes --requirement requirements/test.txt
	@touch $@

.venv/bench.stamp: .venv/test.stamp requirements/bench.txt
	$(PIP) install --require-hashes --requirement requirements/bench.txt
	@touch $@

.venv/mutants.stamp: .venv/test.stamp requirements/mutants.txt
	$(PIP) install --require-hashes --requirement requirements/mutants.txt
	@touch $@

.venv/npm.stamp: .venv/venv.stamp $(NPM:=/package.json) $(NPM:=/package-lock.json)
	@command -v npm >/dev/null || { echo "npm not found: the tests with the clients of Feathers are skipped, and lint needs it"; exit 0; }; \
		for folder in $(NPM); do npm ci --prefix $$folder --silent --ignore-scripts || exit 1; done && touch $@
