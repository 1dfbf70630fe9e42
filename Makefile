# `make reproduce` and `make test` are the two commands; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# Where the CPU build of torch comes from; if this index cannot be reached, pip's configured one is asked for the same wheel.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
CORES ?= all
BLOCKS ?= 10
RUN ?= results/runs/$(if $(filter cpu,$(ENVIRONMENT)),cpu,hopper)
SUBMISSIONS ?= results/submissions
# Further arguments for Snakemake, say ARGS="--config blocks=2".
ARGS ?=

# What .venv holds: cpu, or cu130 (Python 3.12, CUDA 13 and the kernel libraries; several GB) where a Hopper or Blackwell GPU answers.
ENVIRONMENT ?= $(if $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -E '^(9|10)\.0'),cu130,cpu)

# In one of the project's container images the environment is there already, and is only compared with the checkout's locks.
ifdef BAKEOFF_IMAGE
BIN := /opt/bakeoff/bin
TO_REPRODUCE := same-locks
TO_DEVELOP := same-locks
else
BIN := .venv/bin
TO_REPRODUCE := .venv/.reproduce
TO_DEVELOP := .venv/.develop
endif
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A folder that `make bundle` made; set-up takes everything from there then, and asks no index.
BUNDLE ?=
ifneq ($(BUNDLE),)
# As a URL, since pip splits a list of paths at spaces.
export PIP_FIND_LINKS := $(shell $(PYTHON) -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1], "wheels").resolve().as_uri())' "$(BUNDLE)")
export PIP_NO_INDEX := 1
endif
# Byte code is kept whatever the shell says: a run has dozens of processes, and each would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=
# With byte code: the solutions' processes write none, and each would compile torch anew.
INSTALL := install --quiet --no-deps --compile
# What is installed has a hash of a lock and is a wheel, but for connection-pool, which has none.
LOCKED := $(INSTALL) --require-hashes --only-binary=:all:
wheels_of = <(awk '/^[^ \#]/ { source = /^connection-pool==/ } !source' $(1))
# That one is built with the locked setuptools, and fetches nothing for it; by the Python that .venv was made with, since setuptools
# takes a folder with braces in its name for no prefix.
BUILD = PYTHONPATH="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
  "$$($(BIN)/python -c 'import sys; print(sys._base_executable)')" -m pip --disable-pip-version-check wheel --quiet --no-deps \
  --require-hashes --no-build-isolation --use-pep517 --wheel-dir .venv/built
source_of = <(awk '/^[^ \#]/ { source = /^connection-pool==/ } source' $(1))
SOURCES := workflow tests solutions benchmarks

.PHONY: help setup setup-dev setup-slurm reproduce test test-fast test-slurm smoke-slurm slurm-tools fuzz faults guards browser lint types format generate recorded bundle test-bundle crates attest judge lock same-locks site check-determinism golden \
  summary bench bench-profile bench-compare nightly-compare nightly-publish nightly-watch clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(TO_REPRODUCE)  ## make .venv: what the workflow needs
setup-dev: $(TO_DEVELOP)  ## the same, and what tests and checks need
setup-slurm: .venv/.slurm  ## make .venv, with what hands jobs to Slurm (docs/cluster.md)

reproduce: $(TO_REPRODUCE)  ## run the bake-off and render every report
	@$(BIN)/python -m snakemake --cores $(CORES) $(ARGS) || { rc=$$?; case $$rc in \
	  2) ;; \
	  130|143) echo "interrupted; finished cells are kept: run the same command again" >&2 ;; \
	  *) echo "verdict: FAILED; what failed stands above, and which cells in results/index.html" >&2 ;; esac; exit $$rc; }

# More processes than cores: many tests wait for what hangs to be ended. One thread each: threads of several processes that wait for each
# other by spinning took most of the machine. Neighbours share what a module sets up, so they stay together.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 5 --dist worksteal --durations=25

test: $(TO_DEVELOP)  ## all tests
	@$(PYTEST)

test-fast: $(TO_DEVELOP)  ## the tests that take no longer than a few seconds each
	@$(PYTEST) -m "not slow and not browser"

# Debian's Slurm, four virtual nodes on this machine; needs root. Twice: without accounting, and with it.
test-slurm: $(TO_DEVELOP) .venv/.slurm  ## ten blocks over a Slurm cluster that starts on this machine; about 10 minutes
	@for kind in plain accounting; do BAKEOFF_SLURM=$$kind $(BIN)/python -m pytest -x -s tests/slurm; done

slurm-tools:  ## install Slurm on Debian or Ubuntu
	@command -v slurmctld slurmd munged | wc -l | grep -qx 3 || { $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null; }

smoke-slurm: $(TO_DEVELOP) .venv/.slurm  ## a block on a Slurm cluster of one node, which starts on this machine; a minute
	@BAKEOFF_SLURM=smoke $(BIN)/python -m pytest -x -s tests/slurm

fuzz: $(TO_DEVELOP)  ## 100,000 inputs for each parser and for the channel to the workers
	@BAKEOFF_FUZZ=100000 $(PYTEST) tests/integration/test_fuzz.py

faults: $(TO_DEVELOP)  ## a block half done without files, memory or disk, and killed at 50 random moments; minutes
	@BAKEOFF_KILLS=50 $(PYTEST) tests/supervisor/test_faults.py tests/supervisor/test_measure_block.py -k "host_lacks or starts or sigkill or read"

guards: $(TO_DEVELOP)  ## take each guard out of a copy once: its tests must fail; an hour
	@PYTHONPATH=workflow:tests $(BIN)/python tests/support/guards.py

browser:  ## install Chromium, which looks at the pages, on Debian or Ubuntu
	@command -v chromium chromium-browser google-chrome > /dev/null || { $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends chromium > /dev/null; }

lint: $(TO_DEVELOP)  ## ruff, snakefmt, codespell, snakemake --lint, schema drift, zizmor, actionlint
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	@$(BIN)/codespell README.md containers .github CHANGELOG.md CONTRIBUTING.md docs config $(SOURCES)
	@$(BIN)/python -m snakemake --lint --quiet host
	@$(BIN)/python -m bakeoff generate --check
	@$(BIN)/zizmor --quiet --offline --no-progress --pedantic .github
	@$(BIN)/actionlint

site: $(TO_REPRODUCE)  ## render all committed runs into site/, a folder of static pages
	@.ci/site.sh $(BIN) site

check-determinism: $(TO_REPRODUCE)  ## render every report again and compare the bytes
	@.ci/same_bytes.sh $(BIN)

golden: $(TO_REPRODUCE)  ## compare what the pipeline computed with the frozen figures (tests/golden)
	@$(BIN)/python tests/golden/compare.py

summary:  ## the verdict and the newest report, as the summary of a CI job
	@.ci/summary.sh

bench bench-compare: IMAGE = cu130
bench:  ## the bake-off on this host's B200 inside the image IMAGE, with the published protocol; BLOCKS blocks, DATASET a checkout or empty
	@containers/run.sh $(IMAGE) make reproduce ARGS="--profile profiles/b200 --config blocks=$(BLOCKS) \
	  dataset=$(if $(DATASET),/data/flashinfer-trace,synthetic)"

bench-profile: IMAGE = cu130-profile
bench-profile: RUN = results/runs/b200
bench-profile:  ## profile that run again in the image with Nsight, with counters where the driver permits (COUNTERS=1); measures nothing
	@containers/run.sh $(IMAGE) sh -c 'bakeoff profile $(RUN) && bakeoff analyse $(RUN) && bakeoff report $(RUN) --home ../../../index.html'

bench-compare:  ## compare that run with the last recorded one; fails for a wrong output or a supported regression
	@GPUS=none containers/run.sh $(IMAGE) .ci/compare_last.sh /opt/bakeoff/bin b200 sm_100a

nightly-compare: $(TO_REPRODUCE)  ## compare a night's run with the rolling baseline (needs gh)
	@.ci/nightly.sh compare $(BIN)

nightly-publish nightly-watch:  ## open or close the night's issues, and keep the baseline (needs gh)
	@.ci/nightly.sh $(@:nightly-%=%)

types: $(TO_DEVELOP)  ## mypy over the package
	@$(BIN)/mypy

format: $(TO_DEVELOP)  ## rewrite the sources in the project's format
	@$(BIN)/ruff check --fix --quiet $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)
	@$(BIN)/snakefmt Snakefile workflow/Snakefile workflow/rules

generate: $(TO_DEVELOP)  ## regenerate what is generated from the models
	@$(BIN)/python -m bakeoff generate

recorded: $(TO_REPRODUCE)  ## remake traces and analysis of the recorded runs from their samples
	@for run in results/recorded/*/; do $(BIN)/python -m bakeoff assemble "$$run" && $(BIN)/python -m bakeoff analyse "$$run" -o "$${run}analysis.json"; done

bundle:  ## pack what set-up fetches, with the sources, for a host without a network; PARTS=2G, say, also cuts it
	@test -e .venv/.build || $(MAKE) --no-print-directory .venv/.build ENVIRONMENT=cpu
	@containers/bundle.sh $(ENVIRONMENT) build/bundle-$(ENVIRONMENT) $(PARTS)

test-bundle: bundle $(TO_DEVELOP)  ## set up and run everything from that bundle, in a namespace without a network; minutes
	@BAKEOFF_BUNDLE=build/bundle-cpu $(BIN)/python -m pytest -rP tests/containers/test_bundle.py

crates: $(TO_DEVELOP)  ## the recorded runs as RO-Crates in build/crates/, each validated without a network
	@rm -rf build/crates
	@for run in results/recorded/*/; do $(BIN)/python -m bakeoff crate "$$run" -o "build/crates/$$(basename "$$run")"; done
	@$(BIN)/python tests/support/crates.py build/crates/*

attest: $(TO_REPRODUCE)  ## write the statement over the run RUN, to be signed, into build/statement/
	@$(BIN)/python -m bakeoff attest "$(RUN)" -o build/statement

judge: $(TO_REPRODUCE)  ## judge every run in SUBMISSIONS (results/submissions); runs nothing of them
	@.ci/judge.sh $(BIN) $(SUBMISSIONS)

lock:  ## renew every lock file from its input (needs uv)
	@containers/lock.sh

same-locks:
	@$(BIN)/python -m bakeoff preflight

clean:  ## delete what a run made (not .venv, not committed results)
	@rm -rf results/runs results/rendered results/index.html results/verdict.txt .snakemake .cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"make: found Python {sys.version.split()[0]}, expected 3.11 or later; set PYTHON=python3.12, say")'
	@$(PYTHON) -m venv .venv || { echo "make: python3 has no venv module; on Debian/Ubuntu: apt-get install python3-venv" >&2; rm -rf .venv; exit 2; }

# Another environment than the one that is there is installed over it.
.venv/.environment-%: .venv/bin/python
	@rm -f .venv/.environment-* .venv/.build .venv/.torch && touch $@

# Before all others, so that nothing else can have been built with.
# The first thing that is fetched: where nothing answers, the reason comes at once, and not after every retry for every package.
.venv/.build: .venv/.environment-$(ENVIRONMENT) requirements/build.lock requirements/cpu.lock
	@$(PIP) $(LOCKED) --retries 0 --timeout 8 -r requirements/build.lock 2> .venv/build.log || { grep -v ^WARNING .venv/build.log | tail -n 1 >&2; \
	  printf 'setup: packages\n  found:    %s\n  expected: the packages of requirements/build.lock\n  to do:    %s\n' \
	    "$(if $(BUNDLE),none in the bundle $(BUNDLE),no index that answers)" \
	    "connect, and run this again; or take BUNDLE=FOLDER, which \`make bundle\` makes on a host with a network" >&2; exit 2; }
	@rm -rf .venv/built
	@$(BUILD) -r $(call source_of,requirements/cpu.lock)
	@$(PIP) $(INSTALL) --no-index .venv/built/connection_pool-*.whl
	@touch $@

.venv/.torch: .venv/.build requirements/torch.lock
	@echo "setup 1/3: torch, CPU build"
	@$(PIP) $(LOCKED) --retries 1 --timeout 20 --index-url $(TORCH_INDEX) -r requirements/torch.lock 2> .venv/torch.log \
	  || { echo "setup: $(TORCH_INDEX) gave no torch; asking the configured index"; $(PIP) $(LOCKED) -r requirements/torch.lock; } \
	  || { tail -n 1 .venv/torch.log >&2; printf 'setup: torch\n  found:    no wheel with a hash of requirements/torch.lock (why stands above)\n  expected: %s\n  to do:    %s\n' \
	    "$$(sed -n 's/^\(torch[^ ]*\).*/\1/p' requirements/torch.lock) for Python 3.11 to 3.14 on x86-64" \
	    "set TORCH_INDEX to an index that has it, or PIP_FIND_LINKS to a folder that holds the wheel" >&2; exit 2; }
	@touch $@

# The package and the command as they are in the checkout: a path and a script, which move with it.
define itself
$(BIN)/python -c 'import os, pathlib, sysconfig; site = sysconfig.get_path("purelib"); pathlib.Path(site, "bakeoff.pth").write_text(os.path.relpath("workflow", site) + "\n")'
printf '#!/bin/sh\nexec "$$(dirname "$$(readlink -f "$$0")")/python" -m bakeoff "$$@"\n' > $(BIN)/bakeoff && chmod 755 $(BIN)/bakeoff
endef

ifeq ($(ENVIRONMENT),cpu)
.venv/.reproduce: .venv/.torch requirements/cpu.lock requirements/triton.lock
	@echo "setup 2/3: the locked packages"
	@$(PIP) $(LOCKED) -r $(call wheels_of,requirements/cpu.lock)
	@$(PIP) $(LOCKED) -r requirements/triton.lock
	@echo "setup 3/3: bakeoff itself"
	@$(itself)
	@touch $@
else
# Packages in a version of their own, each lock's in a folder of site-packages.
BESIDE := $(wildcard containers/$(ENVIRONMENT)/beside-*.lock)
.venv/.reproduce: .venv/.build containers/$(ENVIRONMENT)/requirements.lock $(BESIDE)
	@$(BIN)/python -c 'import sys; sys.version_info[:2] == (3, 12) or sys.exit(f"make: found Python {sys.version.split()[0]} in .venv, expected 3.12, which the packages for GPUs are locked for; remove .venv and set PYTHON=python3.12, or run `make reproduce-in-container IMAGE=$(ENVIRONMENT)`, or set ENVIRONMENT=cpu and ARGS=\"--config backend=cpu\"")'
	@echo "setup 1/2: the locked packages for GPUs ($(ENVIRONMENT)), several GB"
	@$(PIP) $(LOCKED) -r $(call wheels_of,containers/$(ENVIRONMENT)/requirements.lock)
	@for lock in $(BESIDE); do name=$$(basename $$lock .lock); rm -rf .venv/lib/python3*/site-packages/$${name#beside-}; \
	  $(PIP) $(LOCKED) --target "$$(echo .venv/lib/python3*/site-packages)/$${name#beside-}" -r $$lock; done
	@echo "setup 2/2: bakeoff itself"
	@$(itself)
	@touch $@
endif

.venv/.slurm: .venv/.reproduce requirements/slurm.lock
	@$(PIP) $(LOCKED) -r requirements/slurm.lock
	@touch $@

.venv/.develop: .venv/.reproduce requirements/dev.lock requirements/flashinfer-bench.lock
	@echo "setup: test and check tools"
	@$(PIP) $(LOCKED) -r $(call wheels_of,requirements/dev.lock)
	@$(PIP) $(LOCKED) -r requirements/flashinfer-bench.lock
	@touch $@

include containers/images.mk
