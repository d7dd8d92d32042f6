PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check format docs lock clean

demo: .venv/runtime  ## The main job, on SQLite and the local sandbox; ends by itself
	@$(BIN)/notifyctl demo

test: .venv/dev  ## The whole suite, on SQLite and on a real PostgreSQL
	@$(BIN)/pytest

check: .venv/dev  ## Format, lint, types, import layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/dev  ## Writes the generated pages under docs/
	$(BIN)/python docs/generate.py

lock:  ## Pins every dependency with its hashes (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
		--custom-compile-command "make lock" --python-version 3.11 pyproject.toml --group pyproject.toml:build -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
		--custom-compile-command "make lock" --python-version 3.11 pyproject.toml --group pyproject.toml:build \
		--group pyproject.toml:dev -o requirements-dev.lock

.venv/runtime: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing notifyctl into .venv (once)"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.lock
	@echo "Installing the tools of the test suite into .venv (once)"
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
