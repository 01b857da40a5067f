# make run, make test; see README.md. PYTHON is found by .ci/python, everything lands in .venv and .medbill.
SHELL := /bin/bash
VENV ?= .venv
export VENV
BIN := $(VENV)/bin
ERA ?=
DAG ?= post_payments
REPROCESS ?= none

.PHONY: run stop status demo test lint lock bench-era backfill clean help

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.installed-run ## start everything and take the inbox through all pipelines; leaves the stack running
	@$(BIN)/medbill stack run

stop: ## end everything; data stays in .medbill
	@if [ -x $(BIN)/medbill ]; then $(BIN)/medbill stack stop; else echo "nothing was running"; fi

status: $(VENV)/.installed-run ## what of the stack is healthy, and the login
	@$(BIN)/medbill stack status

demo: $(VENV)/.installed-run ## the same on your own files: make demo ERA="a.835 b.835"
	@[ -n "$(ERA)" ] || { echo 'say which files: make demo ERA="path…"' >&2; exit 2; }
	@$(BIN)/medbill stack run $(foreach file,$(ERA),--era "$(file)")

test: $(VENV)/.installed-dev ## all tests
	@.ci/chromium
	@.ci/test

lint: $(VENV)/.installed-dev ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-era: $(VENV)/.installed-dev ## the 835 reader beside others
	$(BIN)/python benchmarks/era.py

backfill: $(VENV)/.installed-run ## make backfill FROM=2026-10-01 TO=2026-10-31 [DAG=post_payments] [REPROCESS=none|completed|failed]
	@[ -n "$(FROM)" ] && [ -n "$(TO)" ] || { echo 'say which days: make backfill FROM=YYYY-MM-DD TO=YYYY-MM-DD' >&2; exit 2; }
	@eval "$$($(BIN)/medbill stack env)" && $(BIN)/airflow backfill create --dag-id $(DAG) \
	  --from-date $(FROM) --to-date $(TO)T23:59:59 --reprocess-behavior $(REPROCESS) --max-active-runs 2

lock: $(VENV)/.installed-run ## newest versions into the requirements files
	for name in requirements requirements-build requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" $$name.in -o $$name.txt || exit 1; done

clean: stop ## remove the environment and ALL data of the embedded stack
	rm -rf $(VENV) .medbill

$(VENV)/.installed-run: requirements.txt requirements-build.txt pyproject.toml
	@.ci/install run

$(VENV)/.installed-dev: requirements.txt requirements-build.txt requirements-dev.txt pyproject.toml
	@.ci/install dev
