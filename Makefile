# `make demo` and `make test` need nothing but Python 3.11 or newer; `make help` lists the rest.

PYTHON ?= python3
ARGS   ?=
VENV   := .venv
BIN    := $(VENV)/bin

# The environment is current when the stamp of this pyproject.toml, in this folder, exists. The stamp is
# written last: an interrupted installation is taken up again, never trusted. An environment that has the
# development tools also serves the tests and the demo, so its set-up leaves the stamps of all three.
READY  := $(VENV)/.ready-$(shell { cat pyproject.toml; pwd; } | cksum | tr ' ' -)
STAMPS := $(READY)-run $(READY)-test $(READY)-dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test bench setup check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12   the interpreter that .venv is made with"
	@echo "  ARGS='...'          more arguments for the command of demo, test or bench"

demo: $(READY)-run ## audit PrivateSNN on handwritten digits with every attack
	$(BIN)/python -m audit --defense privatesnn --attack all $(ARGS)

test: $(READY)-test ## run the tests, a process per core
	$(BIN)/python -m pytest -n auto $(ARGS)

bench: $(READY)-test ## time the spiking engine beside a plain loop, SpikingJelly and snnTorch: some fifteen minutes
	@mkdir -p .benchmarks
	OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 $(BIN)/python -m pytest benchmarks --benchmark-json=.benchmarks/latest.json $(ARGS)
	$(BIN)/python -m benchmarks.table .benchmarks/latest.json

setup: $(READY)-dev ## make .venv with everything that development needs

check: $(READY)-dev ## lint, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean: ## remove .venv, build output and tool caches; runs/ and stored artifacts stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find audit attacks benchmarks defenses leaderboards tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(READY)-run:  EXTRA :=
$(READY)-run:  SERVES := run
$(READY)-test: EXTRA := [test]
$(READY)-test: SERVES := run test
$(READY)-dev:  EXTRA := [dev]
$(READY)-dev:  SERVES := run test dev

# An environment made by another tool may lack pip (uv's does): it is given one, not thrown away.
# PyTorch goes first and visibly, because it is nearly all of the download.
$(STAMPS):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo 'not a working Python')." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@rm -f $(VENV)/.ready-*
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(BIN)/python -m ensurepip >/dev/null 2>&1 \
	  || { echo "Making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@$(BIN)/python -c 'import importlib.metadata as m; m.version("torch"), m.version("torchvision")' 2>/dev/null \
	  || { echo "Installing PyTorch: the one long download"; $(BIN)/python -m pip install torch torchvision; }
	@echo "Installing snn-privacy-audit$(EXTRA) into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.$(EXTRA)'
	@touch $(SERVES:%=$(READY)-%)
