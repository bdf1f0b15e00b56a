# Two commands: `make book` and `make test`. Each sets up everything by itself; `make help` lists the rest.
# Works with GNU make 3.81 (macOS) and newer.

VENV        := .venv
BIN         := $(VENV)/bin
STAMP       := $(VENV)/.installed
# The interpreter .venv is made with. Empty: the first of python3.13, 3.12, 3.11, python3 that runs and fits.
PYTHON      ?=
# Where torch and torchvision come from. Empty: the registry's default build (on Linux the CUDA build, which runs on
# CPUs too). https://download.pytorch.org/whl/cpu is the much smaller CPU build. Read when .venv is made.
TORCH_INDEX ?=
PRESET      ?= tiny
# 1: the build fails on a damaged record, and on one that is older than the code that shapes it. Empty: it shows them.
STRICT      ?=
# Options of `python -m benchmarks`, such as "--setting cpu-tiny --rounds 3"; --help lists them.
BENCH       ?=
PIP         := $(BIN)/python -m pip install -q --disable-pip-version-check --no-input

# Work is spread over processes, one per core; threads inside each would only fight over the cores.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive
export CVSA_STRICT := $(STRICT)

.PHONY: book test lint bench setup lock clean distclean help
.DEFAULT_GOAL := help

book: $(STAMP)  ## run the experiments of the tiny preset (only what changed) and build the book
	$(BIN)/cvsa reproduce --preset $(PRESET)
	$(BIN)/jupyter-book build book -W -n --keep-going -q
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

test: $(STAMP) lint  ## tests, lint and types
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## time training steps beside peer libraries on a quiet machine, into results/benchmarks (half an hour)
	@$(PIP) -e ".[bench]"
	env -u OMP_NUM_THREADS -u OMP_WAIT_POLICY $(BIN)/python -m benchmarks $(BENCH)

setup: $(STAMP)  ## only make .venv and install the locked packages and this one

$(BIN)/python:
	@for candidate in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3); do \
	  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    echo "Making $(VENV) with $$candidate ($$("$$candidate" --version))"; \
	    "$$candidate" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	  fi; \
	done; \
	echo "No Python 3.11 to 3.13 with venv found$(if $(PYTHON), at PYTHON=$(PYTHON)): install one (on Debian and Ubuntu also python3-venv) or name it with 'make PYTHON=/path/to/python3'." >&2; \
	exit 1

# Made again only when the lock or pyproject.toml changes. With TORCH_INDEX, the two wheels that differ come first and
# alone: the lock then finds them satisfied and brings their dependencies at its own versions. Python compiles a module
# when it is first imported, and most of these never are.
$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the locked packages into $(VENV) (the first time this takes minutes)"
	$(if $(TORCH_INDEX),@$(PIP) --no-deps --index-url $(TORCH_INDEX) $$(grep -oE '^torch(vision)?==[^ ;]+' requirements.lock))
	@$(PIP) --no-compile -r requirements.lock
	@$(PIP) --no-deps -e .
	@touch $@

# torch's own wheel pins the CUDA packages it needs and a CPU build needs none, so the lock leaves them out.
lock: $(STAMP)  ## resolve pyproject.toml anew into requirements.lock (newest versions that fit together)
	$(PIP) uv
	$(BIN)/uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --no-header --no-annotate --upgrade -q -o $(VENV)/new.lock
	grep -vE '^(nvidia|cuda|triton)' $(VENV)/new.lock > requirements.lock

clean:  ## remove the built book, the experiments' outputs and all caches of tools
	rm -rf _build book/_generated book/results .snakemake .pytest_cache .mypy_cache .ruff_cache
	find cvsa tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf $(VENV)

help:
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /make \1|/' | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) PRESET=$(PRESET) STRICT=$(STRICT) BENCH=$(BENCH)"
