# `make run` is the main job, `make test` the checks; both install what they need and are idempotent.
# Options go along: make run ARGS='--set train.images=16000', make test ARGS='tests/gan -k losses'
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
PYTHON ?= python3
# With a site cache that nobody else can write: DVC runs code from it.
DVC := cache=$$($(BIN)/python -m components.services.site_cache) && DVC_SITE_CACHE_DIR="$$cache" dvc

.PHONY: run up test test-long fuzz audit ui repro install

run: $(BIN)/.installed data
	@ganflow run $(ARGS)

up: $(BIN)/.installed data
	@ganflow up $(ARGS)

test: $(BIN)/.installed-test data
	@ruff format --check .
	@ruff check .
	@mypy
	@pytest $(ARGS)

# Minutes of real faults, photographs and platforms; `make test` leaves them out.
test-long: $(BIN)/.installed-test data
	@pytest -m long $(ARGS)

# Damaged and hostile files for every reader; it prints how many ended in a traceback.
fuzz: $(BIN)/.installed-test
	@python -m tests.fuzz $(ARGS)

# Asks PyPI about every package of constraints.txt, and fails where one could not be asked about.
audit: $(BIN)/.installed
	@pip install -q -c constraints.txt -e '.[audit]'
	@pip-audit --strict --no-deps --disable-pip -r constraints.txt

ui: $(BIN)/.installed
	@ganflow ui

repro: $(BIN)/.installed data
	@$(DVC) repro

install: $(BIN)/.installed

data: | $(BIN)/.installed
	@$(DVC) pull data.dvc

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ganflow needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

$(BIN)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): about 2.3 GB, two to five minutes, once."
	@pip install -q -c constraints.txt -e .
	@mkdir -p .ganflow/prefect
	@PREFECT_HOME=$(CURDIR)/.ganflow/prefect prefect server database upgrade -y >/dev/null
	@touch $@

$(BIN)/.installed-test: $(BIN)/.installed
	@pip install -q -c constraints.txt -e '.[test]'
	@touch $@
