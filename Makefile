# Every target sets up what it needs; a second run finds it there. `make` alone prints the list.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.hec-ready
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --progress-bar off
FIND_PYTHON := for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; exit 0; }; done; exit 1
SOURCES := compiler passes runtime hec tests examples bench

.DEFAULT_GOAL := help
.PHONY: help setup demo examples test test-slow lint types check format bench wheel openfhe \
	test-openfhe clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv with hec and everything the other targets need

$(READY): pyproject.toml
	@python=$$($(FIND_PYTHON)) || { \
	echo "hec needs Python 3.10 to 3.13; name one with: make PYTHON=/path/to/python3"; exit 1; }; \
	test -x $(BIN)/python || { echo "creating $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV); } || { rm -rf $(VENV); \
	echo "on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "installing hec and its tools into $(VENV) (the first time: one to three minutes)"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

demo: $(READY)  ## compile a trained network, encrypt an image, predict, decrypt, compare
	@$(BIN)/hec demo

examples: $(READY)  ## run the examples
	$(BIN)/python examples/encrypt_your_own_model.py
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/client_server.sh

test: $(READY)  ## tests without keys, then tests on real ciphertexts
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m "encrypted and not slow"

test-slow: $(READY)  ## the whole zoo of networks
	$(BIN)/python -m pytest -m slow

lint: $(READY)  ## format and lint, changing nothing
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(READY)  ## strict types
	$(BIN)/mypy

check: lint types test  ## all of the above: what a change must pass

format: $(READY)  ## format and mend what ruff can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(READY)  ## accuracy and latency of the networks under HEC_BENCH_DATA (see bench/README.md)
	$(BIN)/python bench/accuracy.py
	$(BIN)/python bench/latency.py

wheel: $(READY)  ## build the wheel into dist/
	@$(BIN)/python -m build --wheel

openfhe: .venv-openfhe/.hec-ready  ## create .venv-openfhe: hec on a Python that imports OpenFHE

.PHONY: .venv-openfhe
.venv-openfhe: .venv-openfhe/.hec-ready

# OpenFHE has one wheel for CPython 3.10 and one for 3.12, and each wants its own glibc: try them.
.venv-openfhe/.hec-ready: pyproject.toml
	@for python in $$(ls -d python3.10 python3.12 $$(command -v python3.10 python3.12) \
	$${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[02].*/bin/python3 2>/dev/null); do \
	$$python -c 'import ensurepip' 2>/dev/null || continue; \
	echo "trying $$($$python --version) ($$python)"; rm -rf .venv-openfhe; \
	$$python -m venv .venv-openfhe && .venv-openfhe/bin/python $(PIP_INSTALL) --editable \
	'.[openfhe,dev]' && .venv-openfhe/bin/python -c 'import openfhe' && touch $@ && exit 0; done; \
	rm -rf .venv-openfhe; echo "no interpreter here can import OpenFHE: it takes CPython 3.10" \
	"with glibc 2.35 or later, or CPython 3.12 with glibc 2.39 or later"; exit 1

test-openfhe:  ## tests without keys under .venv-openfhe, where that exists
	@if [ -x .venv-openfhe/bin/python ]; then .venv-openfhe/bin/python -m pytest; \
	else echo "skipped: no .venv-openfhe (make openfhe creates it)"; fi

clean:  ## remove what the tools leave behind, but not the environments
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
