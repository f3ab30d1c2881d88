# `make repro`, `make test` and `make docs` each need nothing but Python 3.11 or newer, pip and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := true
# Material warns of MkDocs 2, which pyproject.toml excludes.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help repro test coverage docs floors lock preset bench clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

repro: .git $(VENV)/.repro  ## environment, then the whole chain on the built-in demo board, then prints the path of the report
	dvc repro
	@echo "The report: $(CURDIR)/results/report/index.html"

# Before the environment, which takes minutes. A downloaded archive is no repository.
.git:
	@echo "error: $(CURDIR) is no git repository, which DVC needs. Make it one, then run the command again:" >&2
	@echo "  git init" >&2
	@exit 2

test: $(VENV)/.test  ## environment, then everything that must hold
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

coverage: $(VENV)/.test  ## the tests again, with the lines and branches that none of them runs (a third slower)
	pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(PYTEST)

docs: $(VENV)/.test  ## environment, then the documentation in site/, which needs no network
	mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html"

preset:  ## make preset NAME=report25: put presets/NAME.yaml in params.yaml
	$(if $(filter $(NAME),$(PRESETS)),,$(error '$(NAME)' is no preset. NAME is one of: $(PRESETS)))
	cp presets/$(NAME).yaml params.yaml

PRESETS := $(patsubst presets/%.yaml,%,$(sort $(wildcard presets/*.yaml)))

bench: $(VENV)/.test  ## every benchmark; results in benchmarks/results
	python -m benchmarks

clean:  ## remove the environment, unfinished work, results and site; downloads stay
	rm -rf $(VENV) work results site

lock:  ## write the lock files anew from pyproject.toml (needs uv)
	$(LOCK) --extra pipeline | $(WITHOUT_TORCH) > locks/repro.txt
	$(LOCK) --extra dev | $(WITHOUT_TORCH) > locks/test.txt
	$(LOCK) --no-generate-hashes --extra dev --resolution lowest-direct | $(WITHOUT_TORCH) > locks/floors.txt

# The build of torch (CPU or CUDA, with packages of its own) is the machine's choice: no lock names it. So
# a lock, which holds everything else, is installed without looking at dependencies: timm's is any torch.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
WITHOUT_TORCH := awk '/^[a-z]/ {keep = !/^(torch|torchvision|triton|nvidia-.*|cuda-.*)==/} keep'

# The lowest versions warn of deprecations that later ones have removed, and jaxtyping's hook needs a
# newer beartype: neither is a failure here.
floors: $(VENV)-floors/.done  ## environment with the lowest versions that pyproject.toml allows (torch apart), then tests
	"$(abspath $(VENV))-floors/bin/python" -m pytest -o addopts=--import-mode=importlib -q -W default -n 2 --dist loadfile -m "not chain and not browser" $(FLOORS)

# Tests that use each dependency: with the whole suite (make floors FLOORS=tests) it takes as long again.
FLOORS := tests/personae tests/curation/test_catalog.py tests/curation/test_shards.py tests/curation/test_image.py \
	tests/scraper/test_client.py tests/scraper/test_one_shot.py tests/scraper/test_post.py tests/scraper/demo/test_server.py \
	tests/train/test_main.py tests/train/test_dot.py tests/train/test_modularity.py tests/train/test_backbone.py \
	tests/train/test_checkpoint.py tests/train/test_metrics.py tests/train/test_report.py tests/train/test_torchvision.py

# A machine whose own torch sees a GPU keeps it: the environment then looks through to it.
$(VENV)/bin/python:
	$(PYTHON) -m venv $$($(PYTHON) -c 'import torch; torch.cuda.is_available() and print("--system-site-packages")' 2>/dev/null) $(VENV)

$(VENV)/.repro: pyproject.toml locks/repro.txt | $(VENV)/bin/python
	"$(BIN)/pip" install --quiet --no-deps --require-hashes --requirement locks/repro.txt
	"$(BIN)/pip" install --quiet --editable '.[pipeline]'
	@touch $@

$(VENV)/.test: pyproject.toml locks/test.txt | $(VENV)/bin/python
	"$(BIN)/pip" install --quiet --no-deps --require-hashes --requirement locks/test.txt
	"$(BIN)/pip" install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.repro

$(VENV)-floors/.done: pyproject.toml locks/floors.txt
	$(PYTHON) -m venv $(VENV)-floors
	"$(VENV)-floors/bin/pip" install --quiet --no-deps --requirement locks/floors.txt
	"$(VENV)-floors/bin/pip" install --quiet --editable '.[dev]'
	@touch $@
