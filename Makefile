# `make demo` and `make test` work on a fresh machine with Python 3.11 and nothing else installed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 2

.PHONY: setup demo test lint schema bench
.DEFAULT_GOAL := demo

setup: $(VENV)/.up-to-date

# the library is not installed but found where it lies, so that the commit pins the code that runs
$(VENV)/.up-to-date: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	echo "$(CURDIR)/scripts" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/latentree-here.pth"
	touch $@

demo: setup
	$(BIN)/snakemake --cores $(CORES)
	@echo "report: $(CURDIR)/results/pbmc68k/report.html"

test: setup
	$(BIN)/python -m pytest -n $(CORES) --dist loadgroup --cov --cov-report=term --cov-fail-under=85

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

# the config's JSON schema and its page, from scripts/latentree/config.py and settings.py
schema: setup
	$(BIN)/python -m latentree schema > workflow/schemas/config.schema.json
	$(BIN)/python -m latentree schema --page > config/README.md

bench: setup
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done
