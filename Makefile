# make repro: set up .venv and run the whole pipeline. make check, make test: set up and run the tests, the first in
# 3 minutes, the second in 10 on two cores.

PYTHON ?= python3
VENV := .venv
# One worker a core, each with the memory of a process that imports torch.
PYTEST = pytest --numprocesses logical --maxprocesses 8
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: repro demo check test test-services test-chaos compare-alignment lint figures setup

repro: $(VENV)/ready
	dvc repro
	groundup report

# Chat with what the preset open made of SmolLM2-135M: the base is fetched, the adapters in demo/ are put on it.
DEMO := demo/sft demo/aligned

demo: models/demo/config.json
	groundup chat --model demo

models/demo/config.json: $(DEMO:%=%/adapter_model.safetensors) | models/smollm2-135m $(VENV)/ready
	rm -rf models/demo
	groundup merge smollm2-135m $(DEMO) --as demo

models/smollm2-135m: | $(VENV)/ready
	groundup fetch smollm2-135m

# Everything that runs no stage, for the minutes between two edits.
check: $(VENV)/ready lint
	$(PYTEST) -m "not slow and not services"

test: $(VENV)/ready
	$(PYTEST) -m "not services"

# What starts servers, kills stages or runs all of them a second time.
test-services: $(VENV)/ready
	$(PYTEST) -m services

# 82 kills of stages and of dvc, each compared with an uninterrupted run, about 40 minutes (what an interrupted run has
# played is kept in .work/chaos); then the faults of the tests. docs/reliability.md
test-chaos: $(VENV)/ready
	python -m tests.chaos --in .work/chaos
	GROUNDUP_TRIED=docs/tried.json $(PYTEST) tests/bad_input tests/runner/tracking
	python docs/figures.py

# ppo, rloo, grpo, dpo and best of n on the artifacts of `dvc repro`, three seeds; an estimated 40 minutes, and what is
# finished is kept. docs/alignment.md
compare-alignment: $(VENV)/ready
	$(VENV)/bin/python -m bench.compare_alignment

lint: $(VENV)/ready
	ruff format --check .
	ruff check .
	mypy

figures: $(VENV)/ready
	python docs/figures.py

setup: $(VENV)/ready

# Nothing runs that the lock has not hashed, but torch, whose wheels differ by platform: it comes by version, when all that
# it needs of other packages is there. One package of the lock is built here, with the setuptools installed before it.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13), 'groundup needs Python 3.11 to 3.13: make PYTHON=python3.12'"
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(INSTALL) --require-hashes --no-deps --requirement $(VENV)/setuptools.lock
	$(INSTALL) --require-hashes --no-deps --no-build-isolation --requirement requirements.lock
	$(INSTALL) torch==2.13.0
	$(INSTALL) --no-deps --no-build-isolation --editable .
	$(VENV)/bin/python -m pip check
	touch $@
