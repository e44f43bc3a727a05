# `make demo`: the whole method on the offline miniature.  `make test`: the tests.
# Both set themselves up in .venv first and ask nothing. See also `make help`.

PYTHON ?= python3
CORES ?= 2
KILLS ?= 30
SHELL := bash
# What takes so long that it has targets of its own, and what times a browser on an idle machine.
FULL_SIZE := tests/system/test_full_size.py tests/system/test_full_size_decoders.py
APART := tests/system/test_faults.py tests/system/test_slurm.py $(FULL_SIZE)
ALONE := tests/system/test_gallery.py
BIN := .venv/bin
READY := .venv/.ready
export PYTHONPATH := $(CURDIR)/workflow_scripts
MINIATURE := --configfile config/fidelity/corrected.yaml config/mini.yaml
RUN := $(BIN)/snakemake --cores $(CORES) --logger progress

.PHONY: help setup demo demo-sweep demo-functions demo-released fidelity report test test-system test-faults test-slurm test-reruns test-full-size check format config graph clean-demo
.DEFAULT_GOAL := help

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## the environment in .venv

$(READY): requirements.txt
	@echo "Setting up .venv (about two minutes; downloads the packages of requirements.txt once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## the whole workflow on the miniature world, offline, in minutes
	@$(RUN) $(MINIATURE)
	@echo "Done. Open results/mini/report.html"

demo-sweep: $(READY) ## adds to the demo the sweep of guidance scales and strengths
	@$(RUN) $(MINIATURE) config/mini_sweep.yaml
	@echo "Done. Open results/mini/report.html"

demo-functions: $(READY) ## adds to the demo other guidance functions, each with its controls
	@$(RUN) $(MINIATURE) config/mini_functions.yaml
	@echo "Done. Open results/mini/report.html"

demo-released: $(READY) ## the miniature under the reading of the released code
	@$(RUN) --configfile config/fidelity/released.yaml config/mini.yaml config/mini_released.yaml
	@echo "Done. Open results/mini_released/report.html"

fidelity: $(READY) ## measures the switches of docs/fidelity.md on a smaller miniature (up to an hour and a half)
	@$(RUN) fidelity $(MINIATURE) config/mini_fidelity.yaml
	@cp results/fidelity/fidelity/effects.json resources/fidelity_effects.json
	@$(BIN)/python -m neuraldiffuser.config.fidelity
	@echo "Done. Read docs/fidelity.md"

report: demo ## Snakemake's own report of the miniature (results/mini/snakemake-report.zip)
	@$(BIN)/snakemake $(MINIATURE) --report results/mini/snakemake-report.zip

test: $(READY) ## formatting, lints and every test that needs nothing but the set-up
	@$(MAKE) --no-print-directory check
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(CORES) --dist loadfile -m "not system"

test-system: $(READY) ## tests that need Debian packages (apt-packages.txt) or more time: the demo, ten kills ...
	@$(BIN)/pytest -m system -v --numprocesses $(CORES) --dist loadfile tests/system $(patsubst %,--ignore %,$(APART) $(ALONE))
	@$(BIN)/pytest -m system -v $(ALONE)

test-faults: $(READY) ## kills a small world at thirty random moments, fills its disk ...: nothing may be lost
	@KILLS=$(KILLS) $(BIN)/pytest -m system -v -s tests/system/test_kills.py tests/system/test_faults.py

test-slurm: $(READY) ## runs a small world on a Slurm of this machine (apt-packages.txt, root)
	@$(BIN)/pytest -m system -v tests/system/test_slurm.py

test-reruns: $(READY) ## changes every key of the configuration, each alone; only what reads it may rerun
	@$(BIN)/pytest -m system -v -s tests/test_reruns.py

test-full-size: $(READY) ## a guided step of a whole Stable Diffusion, steps of whole decoders, on the CPU
	@$(BIN)/pytest -m system -v $(FULL_SIZE)

check: $(READY) ## formatting and lints only
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/snakefmt --check Snakefile rules
	@$(BIN)/snakemake --lint

format: $(READY) ## formats everything
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet
	@$(BIN)/snakefmt Snakefile rules

config: $(READY) ## rewrites config.yaml, its schema and docs/fidelity.md from the models
	@$(BIN)/python -m neuraldiffuser.config.documents
	@$(BIN)/python -m neuraldiffuser.config.fidelity

graph: $(READY) ## redraws the rule graph in docs/architecture.md
	@$(BIN)/python docs/draw_rule_graph.py

clean-demo: ## removes what the demo made
	rm -rf results/mini results/mini_bucket
