# make help                     what there is
# make table1 SCALE=tiny        Table 1 in miniature, on two CPU cores, nothing downloaded but Python packages
# make table1                   Table 1 for real: gpt2-medium on E2E, needs a CUDA GPU
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
SCALE ?= paper
SEEDS ?= 1
# Cells at a time: GPUs at paper scale, cores at tiny scale.
JOBS ?= $(if $(filter paper,$(SCALE)),1,2)
DEVICE ?= cpu
MODEL ?= all
# Tables and figures by their file in configs/table: "table1 figure3 mine"; a number alone is one of the paper's tables.
TABLE ?= all
RUN := .venv/bin/python
# On a CPU glibc's malloc takes a fifth to a third of a training (docs/real-data.md); with TCMalloc, where the system or
# conda has it, a training does without. TCMALLOC= leaves it out.
TCMALLOC ?= $(firstword $(wildcard $(addsuffix /libtcmalloc_minimal.so.4,$(CONDA_PREFIX)/lib \
  /usr/lib/$(shell uname -m)-linux-gnu /usr/lib64 /usr/lib)))
TRAIN = $(if $(TCMALLOC),LD_PRELOAD=$(TCMALLOC)$${LD_PRELOAD:+:$$LD_PRELOAD} )$(RUN) scripts/train.py
# joblib, ray: JOBS cells at a time, on this machine or a cluster; slurm: the queue decides, JOBS=… limits it; basic: one
# after the other. Settings: configs/hydra/launcher, docs/clusters.md.
LAUNCHER ?= $(if $(filter-out 1,$(JOBS)),joblib,basic)
AT_A_TIME.joblib = hydra.launcher.n_jobs=$(JOBS) hydra.launcher.verbose=0
AT_A_TIME.ray = hydra.launcher.n_jobs=$(JOBS)
AT_A_TIME.slurm = $(if $(filter command environment,$(origin JOBS)),hydra.launcher.array_parallelism=$(JOBS))
LAUNCH = hydra/launcher=$(LAUNCHER) $(AT_A_TIME.$(LAUNCHER))

# Rendered files that hold more than the runs of today give are kept, unless FORCE=1.
FORCED = $(if $(filter 1 true,$(FORCE)),force=true)

GRIDS := $(patsubst configs/table/%.yaml,%,$(sort $(wildcard configs/table/*.yaml)))
NAMED = $(foreach t,$(TABLE),$(if $(filter $t,$(GRIDS) all),$t,$(if $(filter table$t,$(GRIDS)),table$t,$t)))

.PHONY: help setup plan prefetch table $(GRIDS) tables scores keep verify claims report notebooks test test-slow test-clusters test-slurm chaos bench lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: SCALE=paper|laptop|tiny (paper), SEEDS=1,2,3 (1), JOBS=cells at a time, LAUNCHER=joblib|slurm|ray, DEVICE=cpu|cuda, PYTHON=python3, FORCE=1: replace fuller pages"

setup: .venv/.complete ## a .venv with the pinned packages

.venv/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; give another with PYTHON=…" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

table: .venv/.complete ## one or more tables: train missing cells, then render (TABLE="mine table1"; or: make table1)
	@[ "$(TABLE)" != all ] || { echo 'error: give TABLE=, one or more of $(GRIDS); make tables makes all' >&2; exit 2; }
	@for grid in $(NAMED); do \
	  $(TRAIN) -m table=$$grid scale=$(SCALE) seed=$(SEEDS) $(LAUNCH) && \
	  $(RUN) scripts/render.py $$grid scale=$(SCALE) seed=$(SEEDS) $(FORCED) || exit $$?; \
	done

$(GRIDS): .venv/.complete
	$(TRAIN) -m table=$@ scale=$(SCALE) seed=$(SEEDS) $(LAUNCH)
	$(RUN) scripts/render.py $@ scale=$(SCALE) seed=$(SEEDS) $(FORCED)

# A failed cell stops neither its table nor the others; what is missing is said at the end, and by the exit code.
# An interruption stops everything, and a machine without the GPU that the scale needs is told so once.
tables: .venv/.complete ## all of configs/table but tuning…, claims: train all missing cells, then render everything
	@grids=$$($(RUN) scripts/render.py check scale=$(SCALE)) || exit $$?; \
	code=0; for grid in $$grids; do \
	  echo "$$grid:"; \
	  $(TRAIN) -m table=$$grid scale=$(SCALE) seed=$(SEEDS) $(LAUNCH); one=$$?; \
	  if [ $$one -ge 128 ]; then exit $$one; fi; \
	  if [ $$one -ne 0 ]; then code=$$one; fi; \
	done; \
	$(RUN) scripts/render.py tables scale=$(SCALE) seed=$(SEEDS) $(FORCED) || code=$$?; \
	exit $$code

scores: .venv/.complete ## score the runs that ended with their predictions on a machine without Java (score=later)
	$(RUN) scripts/scores.py

keep: .venv/.complete ## copy what the tables need of finished runs, without weights, to results/<scale>/runs: to be committed
	$(RUN) scripts/keep.py scale=$(SCALE) seed=$(SEEDS)

verify: .venv/.complete ## score kept predictions anew, hold records and tables against that (SAMPLE=3: so many records, no intervals)
	$(RUN) scripts/verify.py scale=$(SCALE) $(if $(SAMPLE),sample=$(SAMPLE))

claims: .venv/.complete ## every comparative sentence of the paper, held against the finished runs
	$(RUN) scripts/render.py claims scale=$(SCALE) seed=$(SEEDS) $(FORCED)

report: .venv/.complete ## run the notebooks and write results/<scale>/report.html
	$(RUN) scripts/render.py report scale=$(SCALE) seed=$(SEEDS) $(FORCED)

notebooks: .venv/.complete ## run the notebooks in place: each table at the largest scale that has it, or at SCALE alone
	$(RUN) scripts/render.py notebooks $(if $(filter command environment,$(origin SCALE)),scale=$(SCALE)) seed=$(SEEDS) $(FORCED)

prefetch: .venv/.complete ## download what tables need, for machines without internet (TABLE="1 4")
	$(RUN) scripts/prefetch.py $(NAMED) scale=$(SCALE)

plan: .venv/.complete ## before spending: cells, hours as measured here, downloads, disk (TABLE="1 figure3 mine", MEASURE=1)
	@$(RUN) scripts/plan.py $(NAMED) scale=$(SCALE) seed=$(SEEDS) \
	  jobs=$(JOBS) measure=$(if $(filter 1 true,$(MEASURE)),true,false)

test: .venv/.complete ## the tests (DELTA_LORA_DATA=folder: with real data)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false .venv/bin/pytest -q -n 2 --dist loadgroup

test-slow: .venv/.complete ## full-size models with random weights, on the CPU
	.venv/bin/pytest -q -m slow

test-clusters: .venv/.complete ## runs on two processes against one; sweeps on joblib, submitit and Ray against one cell after the other
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false .venv/bin/pytest -q -m cluster

test-slurm: .venv/.complete ## a one-node Slurm (as root: installs Debian's packages), and what the slurm launcher does there
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false .venv/bin/pytest -q -m slurm -rs

chaos: .venv/.complete ## kill every method's runs KILLS=200 times, from other moments with SEED=, and damage what they leave
	KILLS=$(or $(KILLS),200) SEED=$(or $(SEED),1) OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	  .venv/bin/pytest -q -n 2 --timeout=0 -m "chaos or not chaos" tests/suite/run/test_kill.py

bench: .venv/.complete ## time and memory of every method against PEFT's LoRA, and training beside its peers (DEVICE=cpu|cuda, MODEL=all)
	$(RUN) scripts/bench.py --device $(DEVICE) --model $(MODEL)
	$(if $(filter all gpt2-medium,$(MODEL)),$(RUN) scripts/bench.py --peers --device $(DEVICE) --model $(MODEL))

lint: .venv/.complete ## ruff and mypy
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

clean: ## remove run records and sweeps (rendered tables stay, and W&B's offline runs that are not uploaded yet)
	rm -rf results/runs results/sweeps
	@for run in results/wandb/*; do case $$run in \
	  */offline-run-*) if ls $$run/*.synced > /dev/null 2>&1; then rm -rf $$run; else echo "not uploaded yet, kept: $$run"; fi ;; \
	  *) rm -rf $$run ;; \
	esac; done
