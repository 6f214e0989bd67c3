# offhook: `make run` serves the demo, `make test` checks everything that needs no other program.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Each of pytest's workers, and each command that a test types, would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage interop bench soak lint format lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "offhook needs Python 3.11 or newer; name one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: setup ## Serve the demo on port 5060, call it once as a check, keep serving
	$(BIN)/offhook serve --show-speech --self-check

test: setup lint ## Lint, types, import rule, and every test that needs no other program
	$(BIN)/pytest -q -n 4 --dist worksteal -m "not interop and not soak" $(ARGS)

coverage: setup ## What the tests of "make test" reach
	$(BIN)/pytest -q -n 4 --dist worksteal -m "not interop and not soak" --cov --cov-report=term:skip-covered $(ARGS)

lint: setup ## ruff, mypy --strict, import-linter, shellcheck where it is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! command -v shellcheck >/dev/null || shellcheck install.sh

interop: setup ## Real SIP clients, network namespaces, PostgreSQL (needs Debian packages and root, see .ci/packages)
	$(BIN)/pytest -q -n 2 -m "interop and not soak" tests/interop tests/store tests/parity $(ARGS)
	$(BIN)/python -m tests.interop.cells
	$(BIN)/python -m tests.parity.page

bench: setup ## Load figures as JSON and a table, in build/bench
	$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## Thousands of calls, minutes of fuzzing
	$(BIN)/pytest -q -m soak -s tests $(ARGS)

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Renew requirements.lock from pyproject.toml (needs uv on the PATH)
	uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --all-extras --group dev \
		--python-version 3.11 --output-file requirements.lock pyproject.toml

clean: ## Remove .venv and everything generated
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
