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

# Of the lock in requirements/: every file by its hash, and nothing that is not in it.
LOCKED := $(BIN)/python -m pip install -q --no-deps --require-hashes --no-build-isolation -r requirements
COMPILE := uv pip compile -q --universal --python-version 3.11 -c constraints.txt --no-emit-index-url \
	--no-emit-find-links --no-annotate --no-header --upgrade
HASHED := $(COMPILE) --generate-hashes --excludes requirements/excluded.txt

.PHONY: run up test test-long fuzz audit lock ui repro install

run: $(BIN)/.installed data
	@ganflow run $(ARGS)

up: $(BIN)/.installed data
	@ganflow up $(ARGS)

test: $(BIN)/.installed-test data
	@ruff format --check .
	@ruff check .
	@mypy
	@pytest -n 2 --dist loadfile $(ARGS)

# Minutes of real faults, photographs and platforms; `make test` leaves them out.
test-long: $(BIN)/.installed-test data
	@pytest -m long $(ARGS)

# Damaged and hostile files for every reader; it prints how many ended in a traceback.
fuzz: $(BIN)/.installed-test
	@python -m tests.fuzz $(ARGS)

# Asks PyPI about every package of the lock, and fails where one could not be asked about.
audit: $(BIN)/.installed-test
	@pip-audit --strict --no-deps --disable-pip -r constraints.txt

# Writes the lock anew, after a change of pyproject.toml or constraints.txt.
lock: $(BIN)/.installed-test
	@$(HASHED) pyproject.toml -o requirements/run.txt
	@$(HASHED) --all-extras pyproject.toml -o requirements/test.txt
	@$(HASHED) --group build -o requirements/build.txt
	@$(COMPILE) requirements/excluded.txt -o requirements/torch.txt
	@sed -i '1i # Torch and what it pulls in, by version and without hashes: its builds for CPU and CUDA differ.' requirements/torch.txt

ui: $(BIN)/.installed
	@ganflow ui

repro: $(BIN)/.installed data
	@$(DVC) repro

install: $(BIN)/.installed

data: | $(BIN)/.installed
	@$(DVC) pull -q data.dvc

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ganflow needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)

# Torch comes without hashes: by its version pip gets a CPU or a CUDA build, with what that needs.
$(BIN)/.installed: pyproject.toml requirements/build.txt requirements/run.txt requirements/torch.txt | $(BIN)/python
	@echo "Installing into $(VENV): about 2.3 GB, two to five minutes, once."
	@$(LOCKED)/build.txt
	@$(LOCKED)/run.txt
	@$(BIN)/python -m pip install -q -c requirements/torch.txt torch
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@mkdir -p .ganflow/prefect
	@PREFECT_HOME="$(CURDIR)/.ganflow/prefect" prefect server database upgrade -y >/dev/null
	@touch $@

$(BIN)/.installed-test: $(BIN)/.installed requirements/test.txt
	@$(LOCKED)/test.txt
	@touch $@
