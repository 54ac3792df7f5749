# Every target sets up what it needs; a second run finds it there. `make` alone prints the list.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.hec-ready
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --progress-bar off
FIND_PYTHON := for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; exit 0; }; done; exit 1
OPENFHE_BIN := .venv-openfhe/bin
OPENFHE_READY := .venv-openfhe/.hec-ready
# One wheel for CPython 3.10 and one for 3.12 say that they fit all; each needs a glibc of its own.
OPENFHE_FITS := import ensurepip, platform, sys; \
	needed = {(3, 10): [2, 35], (3, 12): [2, 39]}[sys.version_info[:2]]; \
	sys.exit([*map(int, platform.libc_ver()[1].split("."))] < needed)
INSTALL_OPENFHE := $(OPENFHE_BIN)/python $(PIP_INSTALL) --editable '.[openfhe,dev]' \
	&& $(OPENFHE_BIN)/python -c 'import openfhe'
# A process for each core, and one thread in each: threads of libraries would fight for the cores.
JOBS ?= auto
PYTEST_JOBS := -n $(JOBS) --dist loadfile
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_JOBS)
OPENFHE_TEST := OMP_NUM_THREADS=1 $(OPENFHE_BIN)/python -m pytest $(PYTEST_JOBS)
CHROMIUM := chromium chromium-browser google-chrome
INSTALL_CHROMIUM := export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install \
	--yes --no-install-recommends chromium fonts-dejavu-core >/dev/null
FUZZ_SECONDS ?= 600
SOURCES := compiler passes runtime hec tests examples bench

.DEFAULT_GOAL := help
.PHONY: help setup demo examples test test-slow browser test-browser conformance operators fuzz lint types check \
	format bench wheel openfhe test-openfhe clean

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
	$(BIN)/python examples/scikit_learn.py
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/client_server.sh

test: $(READY)  ## tests without keys, on real ciphertexts, and with OpenFHE where it works
	$(TEST)
	$(TEST) -m "encrypted and not slow and not openfhe"
	@$(MAKE) --no-print-directory openfhe || echo "so the tests with OpenFHE are left out"
	@if [ -e $(OPENFHE_READY) ]; then set -x; $(OPENFHE_TEST) -m openfhe; fi

test-slow: $(READY)  ## the whole zoo of networks
	$(BIN)/python -m pytest -m slow

browser:  ## find Chromium, or install it (on Debian, by root)
	@for name in $(CHROMIUM); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "installing Chromium"; $(INSTALL_CHROMIUM); else \
	echo "these tests need Chromium; on Debian: sudo apt-get install chromium"; exit 1; fi

test-browser: browser $(READY)  ## the page of hec report in Chromium
	$(BIN)/python -m pytest -m browser

conformance: $(READY)  ## hec in the tests that the onnx package ships: passed, refused, failed
	@$(BIN)/python tests/conformance_page.py

operators: $(READY)  ## the same, and write docs/operators.md from it
	@$(BIN)/python tests/conformance_page.py --write

fuzz: $(READY)  ## import damaged models for FUZZ_SECONDS (600); findings in fuzz-findings/
	$(BIN)/python tests/fuzz_onnx.py --seconds $(FUZZ_SECONDS) $(FUZZ_OPTIONS)

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

openfhe: $(OPENFHE_READY)  ## create .venv-openfhe: hec on a Python that imports OpenFHE
	@:

.PHONY: .venv-openfhe
.venv-openfhe: $(OPENFHE_READY)

$(OPENFHE_READY): pyproject.toml
	@if [ -x $(OPENFHE_BIN)/python ] && { $(INSTALL_OPENFHE); }; then touch $@; exit 0; fi; \
	for python in python3.10 python3.12 \
	$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[02].*/bin/python3 2>/dev/null); do \
	$$python -c '$(OPENFHE_FITS)' 2>/dev/null || continue; \
	echo "installing hec and OpenFHE into .venv-openfhe, with $$($$python --version) ($$python)"; \
	rm -rf .venv-openfhe; $$python -m venv .venv-openfhe && { $(INSTALL_OPENFHE); } \
	&& touch $@ && exit 0; done; \
	rm -rf .venv-openfhe; echo "no interpreter here can import OpenFHE: it takes CPython 3.10" \
	"with glibc 2.35 or later, or CPython 3.12 with glibc 2.39 or later"; exit 1

test-openfhe: $(OPENFHE_READY)  ## all tests with OpenFHE, and those without keys beside it
	$(OPENFHE_TEST)
	$(OPENFHE_TEST) -m openfhe

clean:  ## remove what the tools leave behind, but not the environments
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
