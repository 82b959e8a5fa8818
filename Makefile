# Two commands first:  make demo   the whole road on the embedded sandbox, from nothing
#                      make test   the whole test suite, from nothing
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
IN_ENV := . ./env.sh &&

# What a person may pass to `make road`: months per run, and run config for the trainings (a YAML file)
MONTHS_PER_RUN ?= 12
CONFIG ?=

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

.PHONY: setup
setup: $(READY)  ## create .venv and install everything, pinned

$(READY): pyproject.toml constraints.txt
	@echo "Installing into .venv (about two minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

.PHONY: demo
demo: setup  ## sandbox, raw data, features, four trained stages, and a table of what they are worth
	@env -u JQUANTS_API_KEY -u JQUANTS_BASE_URL -u JQUANTS_PLAN -u ATFT_START -u ATFT_END $(MAKE) --no-print-directory road

# Raw data and features come month by month, in runs of MONTHS_PER_RUN; what follows is unpartitioned and is one run.
MONTHLY := (group:raw or group:features or group:graph) and not tag:atft/partitions=none
ROAD := labels,training_panel,train_phase0,train_phase1,train_phase2,train_phase3,baselines,evaluation

.PHONY: road
road: setup  ## the same road for the source, dates and data root that are exported
	@$(IN_ENV) python -m atft_assets.operations.reaper
	@$(IN_ENV) dagster asset materialize --select trading_calendar
	@$(IN_ENV) for range in $$(python -m atft_assets.partitions $(MONTHS_PER_RUN)); do \
	    echo "── raw data and features, $$range"; \
	    dagster asset materialize --select '$(MONTHLY)' --partition-range $$range; \
	done
	@echo "── panel, training, evaluation"
	@$(IN_ENV) dagster asset materialize --select '$(ROAD)' $(if $(CONFIG),--config $(CONFIG))
	@$(IN_ENV) python -m atft_assets.training.report

.PHONY: ui
ui: setup  ## Dagster's UI on what was built (http://127.0.0.1:3000)
	@$(IN_ENV) python -m atft_assets.operations.reaper && exec env -u DAGSTER_MODULE_NAME dagster dev

.PHONY: sandbox
sandbox: setup  ## the local J-Quants alone, on port 8100
	@$(IN_ENV) python -m atft_assets.sandbox serve --port 8100

.PHONY: doctor
doctor: setup  ## is this machine, this key and this data ready?
	@$(IN_ENV) python -m atft_assets.operations.doctor

.PHONY: test
test: setup  ## every test
	$(BIN)/python -m pytest

.PHONY: check
check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: bench-load
bench-load: setup  ## seconds that the code location takes to load
	@$(IN_ENV) python tests/bench_load.py

.PHONY: bench-features
bench-features: setup  ## features at 4,484 names x 2,450 days
	@$(IN_ENV) python -m atft_assets.features.bench

.PHONY: bench-model
bench-model: setup  ## training speed against a DataLoader of windows
	@$(IN_ENV) python -m atft_model bench

.PHONY: clean
clean:  ## remove what the demo made (data, Dagster's state), keep .venv
	rm -rf data .dagster_home
