# make train [ARGS="norm=layernorm init.mean=0"], make contrast, make test-fast, make test, make test-all, make test-faults, make mutants, make lint, make format
PYTHON ?= python3
BIN := .venv/bin
ARGS ?= norm=rmsnorm init.mean=0.2

.PHONY: train contrast mutants test test-fast test-all test-faults lint format
train: .venv/installed
	$(BIN)/python train.py $(ARGS)

contrast: .venv/installed
	$(BIN)/python scripts/contrast.py

test-fast: .venv/installed
	$(BIN)/python -m pytest -n 2 -m "not slow and not long"

test: .venv/installed
	$(BIN)/python -m pytest -n 2 -m "not long"

test-all: .venv/installed
	$(BIN)/python -m pytest -n 2

test-faults: .venv/installed
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m faults --write results/faults.md

mutants: .venv/installed
	$(BIN)/python -m pip install --quiet -e '.[mutants]'
	$(BIN)/python scripts/mutants.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pip takes a CUDA build of torch on Linux; to have a smaller CPU build, install that in .venv first.
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "normlab needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -e '.[dev,plots,slurm,dashboard]'
	touch $@
