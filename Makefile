# `make repro` and `make test` each work from nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := true

.PHONY: help repro test check preset bench clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: $(VENV)/.repro  ## environment, then the whole chain on the built-in demo board, then where the report is
	dvc repro
	@echo "The report: $(CURDIR)/results/report/index.html"

test: $(VENV)/.test  ## environment, then everything that must hold
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered $(PYTEST)

preset:  ## make preset NAME=report25: put presets/NAME.yaml in params.yaml
	cp presets/$(NAME).yaml params.yaml

bench: $(VENV)/.test  ## every benchmark; results in benchmarks/results
	python -m benchmarks

clean:  ## remove the environment, unfinished work and results; what was downloaded stays
	rm -rf $(VENV) work results

# A machine whose own torch sees a GPU keeps it: the environment then looks through to it.
$(VENV)/bin/python:
	$(PYTHON) -m venv $$($(PYTHON) -c 'import torch; torch.cuda.is_available() and print("--system-site-packages")' 2>/dev/null) $(VENV)

$(VENV)/.repro: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[train,pipeline]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.repro
