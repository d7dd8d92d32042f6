PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20
# Bytecode is kept also where the environment says otherwise: rewriting all assertions anew takes seconds a process.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal
CHECKS := check-format check-lint check-types check-layers check-docs

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-api test-browser test-debian chromium debootstrap pgbouncer checkers soak bench check $(CHECKS) figures format docs pictures wheel lock clean

help:  ## Says what each target does
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-12s %s\n' "$$name" "$$what"; done

demo: .venv/runtime  ## The main job, on SQLite and the local sandbox; ends by itself
	@$(BIN)/notifyctl demo

test: .venv/dev  ## The whole suite, on SQLite and on a real PostgreSQL
	@$(PYTEST) --junit-xml=.pytest_cache/suite.xml

test-fast: .venv/dev  ## What needs no PostgreSQL, starts no process and tries few cases: a minute
	@$(PYTEST) -m "not postgresql and not process and not wheel and not exhaustive and not soak and not installation"

test-api: .venv/dev  ## Schemathesis against a real server: what its document allows, and what it does not
	@$(BIN)/python tests/fuzz_api.py

test-browser: .venv/browser  ## The pages in a real Chromium, which apt-get installs where it is missing
	@$(BIN)/python -m pytest tests/browser

test-debian: .venv/dev | debootstrap  ## Follows the docs from an empty Debian to running units: root and a network; a quarter of an hour
	@$(BIN)/python -m pytest -m installation

# Quiet about what apt-get says: on a machine without root or network it says a great deal.
chromium:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit; done; \
	echo "Installing Chromium (once)" >&2; \
	timeout 300 sh -c '$(APT) update && $(APT) install -y --no-install-recommends chromium fonts-inter' >/dev/null 2>&1 || { \
		echo "There is no Chromium, and apt-get could not install it, which takes root, Debian and a network" >&2; exit 1; }

debootstrap:
	@command -v debootstrap >/dev/null && exit; \
	echo "Installing debootstrap (once)" >&2; \
	timeout 120 sh -c '$(APT) update && $(APT) install -y --no-install-recommends debootstrap' >/dev/null 2>&1 || { \
		echo "There is no debootstrap, and apt-get could not install it, which takes root, Debian and a network" >&2; exit 1; }

pgbouncer:
	@test -x /usr/sbin/pgbouncer && exit; \
	echo "Installing PgBouncer (once)" >&2; \
	timeout 120 sh -c '$(APT) update && $(APT) install -y --no-install-recommends pgbouncer' >/dev/null 2>&1 || { \
		echo "There is no PgBouncer, and apt-get could not install it, which takes root, Debian and a network" >&2; exit 1; }

checkers:
	@command -v promtool >/dev/null && command -v systemd-analyze >/dev/null && exit; \
	echo "Installing promtool and systemd-analyze (once)" >&2; \
	timeout 180 sh -c '$(APT) update && $(APT) install -y --no-install-recommends prometheus systemd' >/dev/null 2>&1 || { \
		echo "There is no promtool or no systemd-analyze, and apt-get could not install it, which takes root, Debian and a network" >&2; exit 1; }

soak: .venv/dev  ## Minutes of real load: workers killed at random, a limit held for a quarter of an hour
	@$(BIN)/python -m pytest -m soak

bench: .venv/bench  ## What it costs beside what it may cost, on an idle machine (fewer: ROUNDS=1 ONLY=S1,S4)
	@$(BIN)/python -m tests.benchmarks $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY))

check: $(CHECKS)  ## Format, lint, types, import layers, generated docs

check-format: .venv/dev
	$(BIN)/ruff format --check .

check-lint: .venv/dev
	$(BIN)/ruff check .

check-types: .venv/dev
	$(BIN)/mypy

check-layers: .venv/dev
	$(BIN)/lint-imports

check-docs: .venv/dev
	$(BIN)/python docs/generate.py --check

figures: .venv/dev  ## How big and how tangled the code is, with the limits, and how long the tests took
	@$(BIN)/python tests/figures.py

format: .venv/dev  ## Formats the code, and mends what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/runtime  ## Writes the generated pages under docs/
	$(BIN)/python docs/generate.py

pictures: .venv/dev  ## Takes the pictures in docs/images anew (the inbox needs Chromium)
	$(BIN)/python docs/pictures.py

wheel: .venv/build  ## Builds dist/notifyctl-*.whl
	@rm -rf dist
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command "make lock" --python-version 3.11

lock:  ## Pins every dependency with its hashes (needs uv)
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group pyproject.toml:build -o requirements-build.lock
	$(LOCK) pyproject.toml --group pyproject.toml:build --group pyproject.toml:dev -o requirements-dev.lock
	$(LOCK) pyproject.toml --group pyproject.toml:build --extra bench --constraint requirements-dev.lock -o requirements-bench.lock

.venv/build: requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "notifyctl needs Python 3.11 or newer, $(PYTHON) is %d.%d; say make PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@$(PIP) install --quiet --require-hashes -r requirements-build.lock
	@touch $@

.venv/runtime: .venv/build requirements.lock pyproject.toml
	@echo "Installing notifyctl into .venv (once)" >&2
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	@echo "Installing the tools of the test suite into .venv (once)" >&2
	@$(PIP) install --quiet --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

.venv/bench: .venv/dev requirements-bench.lock
	@echo "Installing what the benchmarks are measured beside into .venv (once)" >&2
	@$(PIP) install --quiet --no-deps --require-hashes -r requirements-bench.lock
	@touch $@

.venv/browser: .venv/dev tests/browser/requirements.lock | chromium
	@$(PIP) install --quiet --no-deps --require-hashes -r tests/browser/requirements.lock
	@touch $@

clean:  ## Removes what was built and installed here
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
