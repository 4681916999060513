# make repro: set up .venv and run the whole pipeline. make test: set up and run the checks.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: repro test lint figures setup

repro: $(VENV)/ready
	dvc repro

test: $(VENV)/ready lint
	pytest

lint: $(VENV)/ready
	ruff format --check .
	ruff check .
	mypy

figures: $(VENV)/ready
	python docs/figures.py

setup: $(VENV)/ready

# torch comes first and by version: its wheels differ by platform, the lock holds everything else.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; assert (3, 11) <= sys.version_info[:2] <= (3, 13), 'groundup needs Python 3.11 to 3.13: make PYTHON=python3.12'"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
