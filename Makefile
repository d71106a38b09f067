# make demo: train a digit classifier on two CPU workers, a few seconds after the environment is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos check fix bench clean

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP)  ## Make or renew the environment in .venv

# Made again when a dependency changes; the stamp comes last, so that an install that broke off is repeated.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## Train on two workers: no GPU, no download
	$(BIN)/ostinato train configs/digits.yaml --nproc-per-node 2

test: $(STAMP)  ## Run the tests
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder

chaos: $(STAMP)  ## The storm, by hand (an hour); TIER=quick takes minutes, SEED=3 another one
	$(BIN)/python -m tests.chaos --tier $(or $(TIER),full) --seed $(or $(SEED),0)

check: $(STAMP)  ## Lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)  ## Mend what the linter and formatter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Measure; see benchmarks/
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.first_step
	$(BIN)/python -m benchmarks.step_overhead
	$(BIN)/python -m benchmarks.reduction
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.checkpoint_stall
	$(BIN)/python -m benchmarks.watching

clean:  ## Remove the environment and caches; runs and data stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
