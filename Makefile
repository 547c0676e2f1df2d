# `make demo` and `make test` work on a fresh machine with Python 3.11 and nothing else installed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 2
# everything in setup and besides scvi-tools, whose models are peers in docs/benchmarks.md
BENCH_VENV := .venv-bench
BENCH_FLAGS ?=
# real cells and ratings for the papers' experiments; what is not there is skipped and named on the page
REPRODUCE_DATA ?= $(firstword $(wildcard data ../shared/data))
MOVIELENS ?=
REPRODUCE_CONFIG = data: $(or $(REPRODUCE_DATA),null), movielens: $(or $(MOVIELENS),null)

.PHONY: setup demo test env-test env-pins cluster-test lint schema bench bench-setup reproduce reproduce-quick
.DEFAULT_GOAL := demo

setup: $(VENV)/.up-to-date $(BIN)/latentree

# the library is not installed but found where it lies, so that the commit pins the code that runs
$(VENV)/.up-to-date: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	echo "$(CURDIR)/scripts" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/latentree-here.pth"
	touch $@

# `latentree`, once the environment is active
$(BIN)/latentree: | $(VENV)/.up-to-date
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m latentree "$$@"\n' > $@
	chmod +x $@

demo: setup
	$(BIN)/snakemake --cores $(CORES)
	@echo "report: $(CURDIR)/results/pbmc68k/report.html"

test: setup
	$(BIN)/python -m pytest -n $(CORES) --cov --cov-report=term --cov-fail-under=85

# each rule in a fresh environment of exactly the pins of its file in envs/
env-test: setup
	$(BIN)/python -m pytest tests/environments

# writes the pins of envs/*.yaml: what the rules import, and all that those packages need
env-pins: setup
	$(BIN)/python tests/environments/env_files.py

# a real Slurm of several virtual nodes on this machine; needs Debian's slurm-wlm and munge. Four tests at once,
# because most of their time they wait for Slurm and for Snakemake to ask it
cluster-test: setup
	$(BIN)/python tests/cluster/virtual_slurm.py
	$(BIN)/python -m pytest -n 4 --no-loadscope-reorder --timeout 900 tests/cluster

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

bench-setup: $(BENCH_VENV)/.up-to-date

$(BENCH_VENV)/.up-to-date: requirements.txt requirements-dev.txt requirements-bench.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	echo "$(CURDIR)/scripts" > "$$($(BENCH_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/latentree-here.pth"
	touch $@

# writes docs/benchmarks.md; BENCH_FLAGS such as "--data FOLDER" or "--only speed scale" (bench/run.py --help)
bench: bench-setup
	$(BENCH_VENV)/bin/python bench/run.py --jobs $(CORES) $(BENCH_FLAGS)

# the papers' experiments; writes docs/reproduction.md
reproduce: setup
	$(BIN)/snakemake --cores $(CORES) --rerun-incomplete --config 'reproduction={$(REPRODUCE_CONFIG)}' -- reproduce
	mkdir -p docs/figures results/reproduction/figures
	cp results/reproduction/reproduction.md docs/reproduction.md
	cp -R results/reproduction/figures/. docs/figures

# one seed and small grids: shows that all of it runs
reproduce-quick: setup
	$(BIN)/snakemake --cores $(CORES) --rerun-incomplete \
		--config 'reproduction={quick: true, $(REPRODUCE_CONFIG)}' -- reproduce
	@echo "page: $(CURDIR)/results/reproduction_quick/reproduction.md"
