# `make demo` shows it, `make test` proves it; `make help` lists the rest.
.POSIX:

PYTHON = python3
VENV = .venv
DEMO = .venv-demo
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
DATA = ../shared/data
RUNS = runs
MINUTES = 10
SPLIT = dev

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /make \1: /p' Makefile

# Redone when pyproject.toml changes. llama-cpp-python is built from its source distribution, whose build fetches cmake
# and ninja where the machine has none.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo 'installing into $(VENV) (the first time this builds llama.cpp: some 4 minutes on 2 cores)'
	@cores=`$(PYTHON) -c 'import os; print(os.cpu_count() or 1)'`; \
	CMAKE_BUILD_PARALLEL_LEVEL="$${CMAKE_BUILD_PARALLEL_LEVEL:-$$cores}" $(BIN)/python -m pip install -q -e '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## make .venv with everything (builds llama.cpp: minutes)

models: $(STAMP) ## fetch the models that the tests use
	@for name in smollm2-135m minilm; do $(BIN)/prlm-edge model pull $$name > /dev/null || exit; done
	@$(BIN)/python -c 'from prlm_edge.train.reward.base import fetch_base; fetch_base()'

lint: types ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy
	$(BIN)/mypy

# A worker of pytest-xdist keeps to one core; each file of tests is one worker's.
test: lint models ## set up, fetch the models, run ruff, mypy and every test
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# An environment of its own, of wheels alone: ONNX Runtime runs the model, and nothing is compiled.
$(DEMO)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(DEMO)/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(DEMO)
	@echo 'installing into $(DEMO) (60 MB of wheels)'
	@$(DEMO)/bin/python -m pip install -q -e '.[local]'
	@touch $@

demo: $(DEMO)/.installed ## set up without a compiler, fetch the default model, write titles with and without its adapter
	@$(DEMO)/bin/prlm-edge model pull > /dev/null
	@$(DEMO)/bin/python examples/demo.py

# It prints the kind and seed of what it finds: `python tests/fuzz.py --kind task --seed 7` runs that case again.
fuzz: models ## odd input of every kind for MINUTES=10: no traceback, crash or hang
	$(BIN)/python tests/fuzz.py --minutes $(MINUTES)

bench: models ## the benchmarks, as ratios measured in one run
	$(BIN)/python benchmarks/run.py

# Hours on two cores; stopped, it goes on where it was. Figures only, no user's words.
results: models ## the evaluation behind the README, on the data sets in DATA=...
	@set -e; for task in commit_subject acl_title release_note; do \
	  $(BIN)/prlm-edge eval run $(DATA)/$$task/test.jsonl.gz --plan benchmarks/quality/ladder.yaml \
	    --limit 150 --per-user 1 --out $(RUNS)/test-$$task; \
	  $(BIN)/prlm-edge eval run $(DATA)/$$task/test.jsonl.gz --plan benchmarks/quality/trained.yaml \
	    --limit 150 --per-user 1 --out $(RUNS)/trained-$$task; \
	  $(BIN)/prlm-edge eval run $(DATA)/$$task/dev.jsonl.gz --plan benchmarks/quality/sweep.yaml \
	    --limit 60 --per-user 1 --out $(RUNS)/dev-$$task; \
	done
	@$(BIN)/prlm-edge eval run $(DATA)/commit_subject/dev.jsonl.gz --plan benchmarks/quality/diet.yaml \
	  --limit 60 --per-user 1 --out $(RUNS)/diet-commit_subject
	$(BIN)/prlm-edge eval report $(RUNS)/test-* $(RUNS)/dev-* $(RUNS)/diet-* --no-examples \
	  --title 'prlm-edge: quality' --out benchmarks/results/quality.html --markdown benchmarks/results/quality.md
	$(BIN)/prlm-edge eval report $(RUNS)/trained-* --no-examples --title 'prlm-edge: the trained default' \
	  --out $(RUNS)/trained.html --markdown benchmarks/results/trained.md

# commit_diff with diffs, blog_title with drafts and with a few words; users of projects and sites of train apart.
asks: models ## what people really ask, on the data sets in DATA=... and SPLIT=dev
	@set -e; for one in commit_diff/diff blog_title/text blog_title/short; do task=$${one%/*}; ask=$${one#*/}; \
	  $(BIN)/prlm-edge eval run $(DATA)/$$task/$(SPLIT).jsonl.gz --ask $$ask --plan benchmarks/quality/asks.yaml \
	    --per-user 1 --out $(RUNS)/$(SPLIT)-$$task-$$ask > /dev/null; \
	  $(BIN)/prlm-edge eval show $(RUNS)/$(SPLIT)-$$task-$$ask --seen $(DATA)/$$task/train.jsonl.gz; \
	done

docs: $(STAMP) ## write docs/cli.md anew from the real help
	$(BIN)/python -m prlm_edge.cli.shared.docs > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

examples: models ## write docs/examples.md anew with the default model
	$(BIN)/python examples/answers.py > docs/examples.md.new
	mv docs/examples.md.new docs/examples.md

clean: ## remove the environment and what was built (models stay: prlm-edge model rm)
	rm -rf $(VENV) $(DEMO) build dist prlm_edge.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup models lint types test demo fuzz bench results asks docs examples clean
