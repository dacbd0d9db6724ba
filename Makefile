# On a fresh machine: `make demo`, then `make test`. Both set up .venv first; no other target but
# qgis-setup and peers-setup installs anything.

OUT ?= demo-out
PYTHON ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

# Versions are tried in this order because the pinned requirements were made with the first.
PYTHONS := $(or $(PYTHON),python3.11 python3 python3.12 python3.13 python3.14)
# ensurepip is asked for too: Debian's python3 comes without it until python3-venv is installed.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# -rfEs lists what failed, and every skipped test with its reason, so that none is skipped silently. Each core has
# two processes, for many tests wait for others (PYTEST_ARGS="-n 0" for one alone); one that has no tests left takes
# over some of another.
PYTEST = $(BIN)/python -m pytest -rfEs --durations=10 --dist worksteal \
    -n $$($(BIN)/python -c "import os; print(min(8, 2 * (os.cpu_count() or 1)))")

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all lint types map bench bench-peers bench-check bench-record lock \
    qgis-setup peers-setup clean

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Create .venv with the pinned requirements (PYTHON=... picks an interpreter)

$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@for python in $(PYTHONS); do \
	    "$$python" -c '$(USABLE)' 2>/dev/null && break; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "setup: no Python 3.11 or newer with its venv module among: $(PYTHONS);" \
	        "install one (Debian: python3 and python3-venv) or say PYTHON=/path/to/python" >&2; \
	    exit 1; \
	fi; \
	$(BIN)/python -c '$(USABLE)' 2>/dev/null || "$$python" -m venv --clear $(VENV)
	@echo "setup: installing the pinned requirements into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install --quiet --no-input -r requirements.txt -r requirements-dev.txt
	@# The build backend is among the requirements, so building needs no environment of its own.
	@$(BIN)/python -m pip install --quiet --no-input --no-deps --no-build-isolation -e .
	@echo "setup: compiling loops for this processor"
	@$(BIN)/python -m pipeline demo --quiet -o $(VENV)/demo > $(VENV)/demo.log
	@rm -r $(VENV)/demo $(VENV)/demo.log
	@touch $@
	@echo "setup: done"

demo: $(STAMP) ## Segment the built-in scene into demo-out (or OUT=...)
	$(BIN)/python -m pipeline demo -o "$(OUT)"

test: lint types ## Lint, types and all tests but the slow ones (PYTEST_ARGS=... adds options)
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: lint types ## The same with the slow tests
	$(PYTEST) $(PYTEST_ARGS)

lint: $(STAMP) ## Check style, format and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP) ## Check types
	$(BIN)/mypy

map: $(STAMP) ## Draw the rooms of ARCHITECTURE.md again, from the imports
	$(BIN)/python -m tests.rooms ARCHITECTURE.md

bench: $(STAMP) ## Run a sitting of the benchmarks into RESULTS.md: an hour (BENCH_ARGS=... adds options)
	$(BIN)/python -m benchmarks --save $(BENCH_ARGS)

bench-peers: peers-setup ## The same with other programs taking part
	$(BIN)/python -m benchmarks --save --peers $(BENCH_ARGS)

bench-check: $(STAMP) ## Fail if something has become slower, beside what it is compared with, than recorded
	$(BIN)/python -m benchmarks check

bench-record: $(STAMP) ## Record those ratios anew (on a quiet machine)
	$(BIN)/python -m benchmarks record

# What torch brings for one kind of GPU is left out of the lock: torch pins those itself, and a
# machine without that GPU need not have them. So is the build's own suffix, as in 2.13.0+cpu.
FREEZE := build/lock/bin/python -m pip freeze --all --exclude pip --exclude wheel --exclude tilewright \
    | grep -vE '^(nvidia-|cuda-|triton)' | sed 's/+.*//'

lock: $(STAMP) ## Resolve pyproject.toml anew into requirements*.txt
	rm -rf build/lock
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --quiet .
	$(FREEZE) > build/lock/run.txt
	build/lock/bin/python -m pip install --quiet ".[dev]"
	$(FREEZE) | grep -vxFf build/lock/run.txt > build/lock/dev.txt
	{ sed -n '/^#/p' requirements.txt; cat build/lock/run.txt; } > build/lock/new.txt
	mv build/lock/new.txt requirements.txt
	{ sed -n '/^#/p' requirements-dev.txt; cat build/lock/dev.txt; } > build/lock/new.txt
	mv build/lock/new.txt requirements-dev.txt

# Shell words that install what follows them. --no-install-recommends: the programs, not their manuals.
APT_INSTALL = if ! command -v apt-get >/dev/null; then \
	    echo "$@: no apt-get on this machine; install these or what they are called here with its own" \
	        "package manager: $(PACKAGES)" >&2; \
	    exit 1; \
	fi; \
	sudo=; \
	if [ "$$(id -u)" != 0 ]; then \
	    if ! command -v sudo >/dev/null; then \
	        echo "$@: installing packages needs root or sudo" >&2; \
	        exit 1; \
	    fi; \
	    sudo=sudo; \
	fi; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(PACKAGES)

QGIS_PRESENT := command -v qgis_process && command -v gdalinfo && /usr/bin/python3 -c 'import qgis.core'

qgis-setup: PACKAGES := qgis python3-qgis gdal-bin
qgis-setup: ## Install Debian's QGIS for the tests that need it
	@if { $(QGIS_PRESENT); } >/dev/null 2>&1; then \
	    echo "qgis-setup: QGIS is here already"; \
	    exit 0; \
	fi; \
	$(APT_INSTALL)

PEERS_PRESENT := command -v grass && command -v otbcli_SOMClassification && command -v gdal_translate
# Apart from .venv: they are no part of the product, and the lock shall not know them.
PEER_WHEELS := benchmarks/work/peers

peers-setup: PACKAGES := grass-core otb-bin gdal-bin
peers-setup: $(STAMP) ## Install the programs that `make bench-peers` runs beside ours
	@if { $(PEERS_PRESENT); } >/dev/null 2>&1; then \
	    echo "peers-setup: GRASS and OTB are here already"; \
	    exit 0; \
	fi; \
	$(APT_INSTALL)
	@[ -e $(PEER_WHEELS)/odc ] || $(BIN)/python -m pip install --quiet --no-input --no-deps \
	    --target $(PEER_WHEELS) -r benchmarks/peers.txt

clean: ## Remove outputs, builds and caches (.venv stays)
	rm -rf demo-out benchmarks/work build dist *.egg-info \
	    .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
