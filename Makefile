# `make reproduce` and `make test` are the two commands; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
TORCH_VERSION := 2.13.0
TRITON_VERSION := 3.6.0
# Where a CPU build of torch comes from; if this index cannot be reached, pip's configured one is asked.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
CORES ?= all
# Further arguments for Snakemake, say ARGS="--config blocks=2".
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := install --quiet --no-deps --require-hashes
SOURCES := workflow tests solutions benchmarks

.PHONY: help setup setup-dev reproduce test test-fast test-ci lint types format schemas lock clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.reproduce  ## make .venv: what the workflow needs
setup-dev: .venv/.develop  ## the same, and what tests and checks need

reproduce: .venv/.reproduce  ## run the bake-off and render every report
	@$(BIN)/snakemake --cores $(CORES) $(ARGS) || { echo "verdict: FAILED; results: results/index.html says which cells and what to do" >&2; exit 1; }
	@echo "verdict: $$(cat results/verdict.txt); results: results/index.html"

test: .venv/.develop  ## all tests
	@$(BIN)/python -m pytest -n 2

test-fast: .venv/.develop  ## the tests that take no longer than a few seconds each
	@$(BIN)/python -m pytest -n 2 -m "not slow and not browser"

test-ci: .venv/.develop  ## all tests but the slow ones
	@$(BIN)/python -m pytest -n 2 -m "not slow"

lint: .venv/.develop  ## ruff, snakefmt, codespell, snakemake --lint, schema drift
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/snakefmt --check Snakefile workflow/rules
	@$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs config $(SOURCES)
	@$(BIN)/python .ci/lint_workflow.py
	@$(BIN)/bakeoff schemas --check

types: .venv/.develop  ## mypy over the package
	@$(BIN)/mypy

format: .venv/.develop  ## rewrite the sources in the project's format
	@$(BIN)/ruff check --fix --quiet $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/snakefmt Snakefile workflow/rules

schemas: .venv/.develop  ## regenerate what is generated from the models
	@$(BIN)/bakeoff schemas

lock: .venv/.develop  ## renew requirements/*.lock from requirements/*.in (needs uv)
	@for name in dev cpu; do uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	   --custom-compile-command "make lock" $$( [ $$name = cpu ] && echo "-c requirements/dev.lock" ) requirements/$$name.in -o requirements/$$name.lock; done

clean:  ## delete what a run made (not .venv, not committed results)
	@rm -rf results/runs results/rendered results/index.html .snakemake .cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"make: found Python {sys.version.split()[0]}, expected 3.11 or later; set PYTHON=python3.12, say")'
	@$(PYTHON) -m venv .venv || { echo "make: python3 has no venv module; on Debian/Ubuntu: apt-get install python3-venv" >&2; rm -rf .venv; exit 2; }

.venv/.torch: .venv/bin/python Makefile
	@echo "setup 1/3: torch $(TORCH_VERSION), CPU build"
	@$(PIP) install --quiet --no-deps --retries 1 --timeout 20 --index-url $(TORCH_INDEX) torch==$(TORCH_VERSION) 2> .venv/torch.log \
	  || { echo "setup: $(TORCH_INDEX) gave no torch; asking the configured index"; $(PIP) install --quiet --no-deps torch==$(TORCH_VERSION); }
	@touch $@

.venv/.reproduce: .venv/.torch requirements/cpu.lock pyproject.toml
	@echo "setup 2/3: the locked packages"
	@$(PIP) $(LOCKED) -r requirements/cpu.lock
	@$(PIP) install --quiet --no-deps triton==$(TRITON_VERSION)
	@echo "setup 3/3: bakeoff itself"
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.develop: .venv/.reproduce requirements/dev.lock
	@echo "setup: test and check tools"
	@$(PIP) $(LOCKED) -r requirements/dev.lock
	@$(PIP) install --quiet --no-deps flashinfer-bench==0.1.2
	@touch $@
