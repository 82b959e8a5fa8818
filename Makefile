# Two commands first:  make demo   the whole road on the embedded sandbox, from nothing
#                      make test   the whole test suite, from nothing
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEPLOY := .venv/.deploy
IN_ENV := . ./env.sh &&

# What a person may pass to `make road`: months per run, and run config for the trainings (a YAML file)
MONTHS_PER_RUN ?= 12
CONFIG ?=
# where `make ui` listens, on this machine alone
PORT ?= 3000
# COVERAGE=1 makes `make test` count lines as well; the figure stands at the end
COVERAGE ?=
# what `make deploy-test` tries: all rows of its table; TRIED=machine leaves out what `make test` runs too
TRIED ?=
# tests run on every core; a file stays with one worker (tests/conftest.py deals them)
WORKERS := -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

.PHONY: setup
setup: $(READY)  ## create .venv and install everything, pinned

$(READY): pyproject.toml constraints.txt
	@echo "Installing into .venv (about two minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev,postgres,s3,gpu,metrics]'
	touch $@

# what `make deploy-test`, `make audit` and `make sbom` need beside it: Ray, linters, auditors
$(DEPLOY): $(READY)
	@echo "Installing Ray and the linters (about a minute) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,deploy]'
	touch $@

ROAD = python -m atft_assets.tools.reaper && exec python -m atft_assets.tools.road --months-per-run $(MONTHS_PER_RUN) \
	$(if $(CONFIG),--config $(CONFIG))

.PHONY: demo
demo: setup  ## sandbox, raw data, features, four trained phases, and a table of what they are worth
	@unset JQUANTS_API_KEY JQUANTS_BASE_URL JQUANTS_PLAN ATFT_START ATFT_END; $(IN_ENV) $(ROAD) --called 'make demo'

.PHONY: road
road: setup  ## the same road for the source, dates and data root that are exported
	@$(IN_ENV) $(ROAD)

.PHONY: ui
ui: setup  ## Dagster's UI on what was built (http://127.0.0.1:3000, or PORT=...), with the daemon
	@$(IN_ENV) python -m atft_assets.tools.reaper && exec python -m atft_assets.tools.ui --port $(PORT)

.PHONY: sandbox
sandbox: setup  ## the local J-Quants alone, on port 8100
	@$(IN_ENV) python -m atft_assets.sandbox serve --port 8100

.PHONY: doctor
doctor: setup  ## is this machine, this key and this data ready?
	@$(IN_ENV) python -m atft_assets.tools.doctor

.PHONY: test
test: setup  ## every test but those that take minutes (make deploy-test): a worker a core, and one
	$(BIN)/python -m pytest $(WORKERS) -m "not machine" $(if $(COVERAGE),--cov --cov-report=term)

.PHONY: test-fast
test-fast: setup  ## all but the slow ones and those that drive a real command line or browser: under two minutes
	$(BIN)/python -m pytest -q $(WORKERS) -m "not e2e and not slow and not machine"

.PHONY: deploy-test
deploy-test: $(DEPLOY)  ## what deploy/ describes, really run: services, proxy, machines, images, hosts; ends with what ran and what not
	$(BIN)/python -m pytest -q -p tests.deploy.table $(if $(TRIED),-m "$(TRIED)")

.PHONY: coverage
coverage: setup  ## the fast tests again, with the lines that none of them reaches
	$(BIN)/python -m pytest -q -m "not e2e and not slow" --cov --cov-report=term-missing

.PHONY: check
check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: secrets
secrets: setup  ## is a key, a token or a password in a file that git knows?
	$(BIN)/pre-commit run --all-files secrets

.PHONY: audit
audit: $(DEPLOY)  ## is a vulnerability known in a pinned package? Exit code 0 only when every one was looked up
	@$(IN_ENV) python -m atft_assets.tools.audit

.PHONY: sbom
sbom: $(DEPLOY)  ## every package of .venv, its version and licence, as CycloneDX: sbom.json
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible -o sbom.json $(BIN)/python
	@echo "sbom.json"

.PHONY: hooks
hooks: setup  ## style, types and the secret scan before every commit
	$(BIN)/pre-commit install

.PHONY: docs
docs: setup  ## render from code and record: docs/features.md, docs/formats.md, README's pictures and table, modules
	$(BIN)/python -m atft_assets.features.catalogue > docs/features.md
	$(BIN)/python -m atft_model.interchange.formats > docs/formats.md
	$(BIN)/python -m tests.test_docs
	$(BIN)/python -W ignore -m tests.readme

# make hpo-run HPO_TRIALS=20 HPO_STUDY=atft_phase2_hpo; what else the search may be told: CONFIG=FILE, a run config
HPO_TRIALS ?= 20
HPO_STUDY ?= atft_phase2_hpo

.PHONY: hpo-run
hpo-run: setup  ## search for knobs on development folds: HPO_TRIALS trials in the study HPO_STUDY, gone on with if it is there
	@$(IN_ENV) python -m atft_assets.tools.reaper && exec dagster asset materialize --select hpo \
		$(if $(CONFIG),--config $(CONFIG),--config-json '{"ops": {"hpo": {"config": {"study": "$(HPO_STUDY)", "trials": $(HPO_TRIALS)}}}}')

.PHONY: attack
attack: setup  ## the whole kill matrix: every process of the road, struck in every phase; most of an hour
	@$(IN_ENV) python -m tests.attack.kill --all

.PHONY: bench-load
bench-load: setup  ## seconds that the code location takes to load
	@$(IN_ENV) python -m atft_assets.benches.load

.PHONY: bench-features
bench-features: setup  ## features at 4,484 names x 2,450 days
	@$(IN_ENV) python -m atft_assets.benches.features

.PHONY: bench-baselines
bench-baselines: setup  ## seconds and memory of each baseline, and of the newest row, at 1,500 names x 1,000 days
	@$(IN_ENV) python -m atft_assets.benches.baselines

.PHONY: bench-evenings
bench-evenings: setup  ## megabytes of Dagster's home after 250 evenings, with retention and without
	@$(IN_ENV) python -m atft_assets.benches.evenings

.PHONY: bench-trading
bench-trading: setup  ## seconds and memory of a back-test at 4,400 names x 2,450 days, and of a sweep of twenty
	@$(IN_ENV) python -m atft_assets.benches.trading

.PHONY: bench-events
bench-events: setup  ## milliseconds of an event on SQLite, on PostgreSQL as shipped, and with our class
	@$(IN_ENV) python -m atft_assets.benches.events

.PHONY: bench-bulk
bench-bulk: setup  ## a year of quotes of 1,000 names by monthly file against by day: seconds, requests, hashes
	@$(IN_ENV) python -W ignore -m atft_assets.benches.bulk

.PHONY: bench-plants
bench-plants: setup  ## what the sandbox plants in other data than prices, found by the real road in its family and in no other
	@$(IN_ENV) python -W ignore -m atft_assets.benches.plants

.PHONY: bench-scale
bench-scale: setup  ## what many workers, names, months and publishers do to events, queue, panel and features: docs/scale.md
	@$(IN_ENV) python -W ignore -m atft_assets.benches.scale

.PHONY: bench-ray
bench-ray: $(DEPLOY)  ## a whole walk-forward of the real trainer on two hosts, one lost, one cut off, cancelled; as root
	@$(BIN)/python -W ignore -m tests.deploy.ray_walk_forward

.PHONY: bench-model
bench-model: setup  ## training speed against a DataLoader of windows
	@$(IN_ENV) python -m atft_model bench

.PHONY: clean
clean:  ## remove what the demo made (./data, Dagster's history in it), keep .venv; asks first, unless CONFIRM=yes
	@[ "$(CONFIRM)" = yes ] || { read -r -p "Delete $(CURDIR)/data with all runs and their history? [y/N] " yes; [ "$$yes" = y ]; }
	rm -rf data .dagster_home  # where the history lay until version 0.2
