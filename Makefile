# Everything a contributor needs.  `make` lists the targets; each sets up .venv first where it is missing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.landseer-is-set-up
# Test workers share two cores: one thread each.  Nowhere else is the number of threads set.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

.PHONY: help setup test test-all soak demo format docs bench results-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything in it; instant when nothing changed

$(STAMP): pyproject.toml setup.py constraints.txt .ci/find-python
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$(.ci/find-python)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

test: $(STAMP)  ## format, lint, types and the fast tests, in minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not soak"

test-all: $(STAMP)  ## the slow tests, and a wheel in an environment without dev tools
	$(PYTEST) -m slow
	.ci/check-wheel

soak: $(STAMP)  ## dozens of kills of everything that writes; run by hand, its output goes to docs/results.md
	$(PYTEST) -m soak --durations 0

demo: $(STAMP)  ## the main job on a mini world that the program draws itself
	$(BIN)/landseer demo

format: $(STAMP)  ## format, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## write the pages that are generated from --help and from the options
	$(BIN)/python docs/make_commands.py
	$(BIN)/python docs/make_recipes.py

bench: $(STAMP)  ## speed beside floors and peers; extraction.py, training.py, matching.py, cleaning.py and grouping.py take a collection
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/search.py --approximate
	$(BIN)/python benchmarks/index.py
	$(BIN)/python benchmarks/head.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/reranking.py
	$(BIN)/python benchmarks/submission.py
	$(BIN)/python benchmarks/serve.py
	$(BIN)/python benchmarks/duplicates.py --hashes 10000000

results-check: $(STAMP)  ## replay the headline numbers where the real photos are at hand
	$(BIN)/pytest -m photos -rs

clean:  ## remove caches and build products; .venv, demo/ and runs/ stay
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
