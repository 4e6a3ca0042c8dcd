# Two commands matter: `make demo` and `make test`. Each makes its own environment in .venv first.

PYTHON := $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := $(BIN)/python -m

.PHONY: demo test slow lint types check benchmark clean

demo: .venv/core.stamp
	$(RUN) fewbit demo

test: .venv/dev.stamp
	$(RUN) pytest -n auto -m "not slow and not zoo"

slow: .venv/dev.stamp
	$(RUN) pytest -m "slow or zoo"

lint: .venv/dev.stamp
	$(RUN) ruff check .

types: .venv/dev.stamp
	$(RUN) mypy

check: lint types test

benchmark: .venv/dev.stamp
	$(BIN)/python benchmarks/run.py

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "fewbit needs Python 3.11 or newer, and none was found" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/core.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev.stamp: .venv/core.stamp
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis fewbit-demo
