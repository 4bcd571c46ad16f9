# Everything starts here: `make` lists the targets. Needs Python >= 3.10 and make; `make setup` fetches the rest.
SHELL := /bin/bash
PYTHON ?= python3
EXP ?= saliency_wfb
DATA ?= shapes
SEED ?= 0
ARGS ?=
HOURS ?= 3
TABLE ?= saliency
RUN ?= $(EXP)/$(DATA)
OUT ?= predictions
FORMAT ?= onnx
ANY ?=

KNOWN := EXP DATA SEED DEVICES RESUME RUN RUNS IN OUT FORMAT TABLE PRED GT HOURS ANY ARGS PYTHON SHELL
GIVEN = $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN = $(filter-out $(KNOWN) -*-%,$(GIVEN))
$(if $(UNKNOWN),$(error There is no variable $(UNKNOWN). There are: $(filter-out SHELL,$(KNOWN))))

BIN := .venv/bin
STAMP := .venv/.installed
EXPERIMENTS = $(patsubst experiments/%.yaml,%,$(filter-out experiments/base.yaml,$(wildcard experiments/*.yaml)))
TABLES = $(patsubst experiments/tables/%.yaml,%,$(wildcard experiments/tables/*.yaml))
DATASETS = $(patsubst experiments/data/%.yaml,%,$(wildcard experiments/data/*.yaml))

.DEFAULT_GOAL := help
.PHONY: help setup .known train test test-examples test-matrix lint predict export score compare leet sync notebook evidence tables bench bench-train fidelity chaos soak clean

help: ## Print this list
	@echo "Usage: make TARGET [VARIABLE=...]"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name what; do printf '  make %-13s %s\n' "$$name" "$$what"; done
	@echo
	@echo "  EXP    experiment, now $(EXP); there are: $(EXPERIMENTS)"
	@echo "  DATA   data set, now $(DATA); there are: $(DATASETS)"
	@echo "  SEED   seed of everything random, now $(SEED)"
	@echo "  DEVICES processes to train with, one per GPU or, without GPUs, on the CPU; by default all GPUs, else one"
	@echo "  RESUME run folder to go on with, or last: the newest unfinished run of EXP, DATA and SEED"
	@echo '  RUNS   runs to compare, the baseline first: folders, also of scores, or experiments on DATA, e.g. RUNS="saliency_bce saliency_wfb"'
	@echo "  RUN    run to predict with or to export: a folder, or EXPERIMENT/DATA, now $(RUN)"
	@echo "  IN     images to predict: files, folders, patterns; OUT is the folder of what comes out, now $(OUT)"
	@echo "  FORMAT of an export, now $(FORMAT); there are: onnx torch smp"
	@echo "  TABLE  table of evidence, now $(TABLE); there are: $(TABLES)"
	@echo "  PRED   folder of maps to score against the masks in GT"
	@echo "  ANY    packages of which make test-matrix takes any version instead of the oldest, such as torch"
	@echo "  HOURS  how long make soak trains, now $(HOURS)"
	@echo '  ARGS   goes to the command line as it is, e.g. ARGS="--trainer.max_epochs=2"'
	@echo "  PYTHON interpreter that makes .venv, now $(PYTHON)"

setup: $(STAMP) ## Make .venv with everything that training and testing need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and f"Python >= 3.10 is needed, $(PYTHON) is {sys.version.split()[0]}; choose another with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (once; a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.known:
	@test -f "experiments/$(EXP).yaml" -a "$(EXP)" != base || { echo "There is no experiment '$(EXP)'. There are: $(EXPERIMENTS)"; exit 2; }
	@test -f "experiments/data/$(DATA).yaml" || { echo "There is no data set '$(DATA)'. There are: $(DATASETS)"; exit 2; }

CONFIGS = --config experiments/base.yaml --config experiments/$(EXP).yaml --config experiments/data/$(DATA).yaml
train: .known $(STAMP) ## Train experiment EXP on DATA, test it, and say where the results are
	@$(BIN)/python -m spatialseg fit $(CONFIGS) --seed_everything $(SEED) $(if $(DEVICES),--trainer.devices $(DEVICES)) $(if $(RESUME),--resume $(RESUME)) $(ARGS)

test: $(STAMP) lint ## Lint, type-check and run the tests; ARGS goes to pytest
	@$(BIN)/python -m pytest -n 2 --dist loadscope $(ARGS)

EXAMPLES := .venv/examples
SITE = -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
test-examples: $(STAMP) ## Run all examples, in an environment that adds MONAI and Hugging Face to .venv
	@test -x $(EXAMPLES)/bin/python || $(BIN)/python -m venv $(EXAMPLES)
	@echo "import site; site.addsitedir('$$($(BIN)/python $(SITE))')" > "$$($(EXAMPLES)/bin/python $(SITE))/spatialseg.pth"
	@$(EXAMPLES)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[examples]'
	@$(EXAMPLES)/bin/python -m pytest -n 0 tests/test_examples.py $(ARGS)

MATRIX := .venv/matrix
test-matrix: $(STAMP) ## Run the tests on the wheel with the oldest and the newest dependencies, in environments of their own
	@rm -rf $(MATRIX) && mkdir $(MATRIX) && touch $(MATRIX)/newest.txt
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(MATRIX) .
	@sed -nE '/^(dependencies|train) = /,/^\]/s/^ +"([a-z0-9-]+)(\[[a-z]+\])?>=([0-9.]+).*/\1==\3/p' pyproject.toml | grep -vE '^($(subst $() ,|,$(strip $(ANY))))==' > $(MATRIX)/oldest.txt
	@set -e; wheel=$$(ls $$PWD/$(MATRIX)/*.whl); for each in oldest newest; do \
		$(PYTHON) -m venv $(MATRIX)/$$each; bin=$$PWD/$(MATRIX)/$$each/bin; \
		install="$$bin/python -m pip install --quiet --disable-pip-version-check --constraint $(MATRIX)/$$each.txt"; \
		echo "$$each, without extras"; $$install "$$wheel"; \
		(cd $(MATRIX); $$bin/spatialseg losses >/dev/null; $$bin/spatialseg score --help >/dev/null; $$bin/python $(CURDIR)/examples/pytorch_loop.py); \
		echo "$$each, with all"; $$install "$$wheel[dev]"; \
		$$bin/python -m pytest -n 2 --dist loadscope $(ARGS); done

lint: $(STAMP) ## Check style and types only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

predict: $(STAMP) ## Predict the images IN with the run RUN, into the folder OUT; ARGS goes to the command
	@$(BIN)/python -m spatialseg predict $(RUN) $(IN) --out $(OUT) $(ARGS)

export: $(STAMP) ## Write the run RUN as FORMAT for use elsewhere; ARGS goes to the command
	@$(BIN)/python -m spatialseg export $(RUN) --format $(FORMAT) $(ARGS)

score: $(STAMP) ## Score the maps in PRED against the masks in GT; ARGS goes to the command
	@$(BIN)/python -m spatialseg score --pred $(PRED) --gt $(GT) $(ARGS)

compare: $(STAMP) ## Show the runs RUNS on DATA side by side; ARGS goes to the command
	@$(BIN)/python -m spatialseg compare $(foreach run,$(RUNS),$(if $(findstring /,$(run))$(wildcard $(run)/scores.json),$(run),$(run)/$(DATA))) $(ARGS)

leet: $(STAMP) ## Look at the curves of all runs in the terminal, with W&B's own tool and no account
	@$(BIN)/wandb leet runs/wandb $(ARGS)

sync: $(STAMP) ## Upload what W&B has not seen yet; ARGS goes to wandb sync, e.g. ARGS=--dry-run
	@$(BIN)/wandb sync --yes $(ARGS) runs/wandb

evidence: $(STAMP) ## Train what is missing of TABLE, one or more of experiments/tables, one run after the other
	@$(BIN)/python -m spatialseg evidence $(TABLE) $(ARGS)

tables: $(STAMP) ## Make the tables and figures of the evidence anew from experiments/results
	@$(BIN)/python -m spatialseg tables

bench: $(STAMP) ## Time losses, measures and predict against their peers, loggers and networks; results go to benchmarks/results
	@$(BIN)/python benchmarks/losses.py
	@$(BIN)/python benchmarks/measures.py
	@$(BIN)/python benchmarks/predict.py
	@$(BIN)/python benchmarks/loggers.py
	@$(BIN)/python benchmarks/networks.py

bench-train: $(STAMP) ## Time our training loop against a bare one, and the loader; minutes
	@$(BIN)/python benchmarks/train.py $(ARGS)

chaos: $(STAMP) ## Kill a small training 20 times at random moments and see whether it ends as if nothing had been; minutes
	@$(BIN)/python benchmarks/chaos.py $(ARGS)

soak: $(STAMP) ## Train for HOURS and watch memory, open files and the run folder
	@$(BIN)/python benchmarks/soak.py --hours $(HOURS) $(ARGS)

fidelity: $(STAMP) ## Compare the loss with the measure on predictions of DATA at several stages of training EXP
	@$(MAKE) --no-print-directory train ARGS='--experiment fidelity_$(EXP) --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.filename=stage_{epoch:02d} --trainer.callbacks.auto_insert_metric_name=false --trainer.callbacks.save_top_k=-1 $(ARGS)'
	@run=$$(ls -d runs/fidelity_$(EXP)/$(DATA)/seed$(SEED)/* | tail -n 1) && $(BIN)/python benchmarks/fidelity.py $$run $$run/checkpoints/stage_*.ckpt

JUPYTER := .venv/.jupyter
$(JUPYTER): $(STAMP)
	@echo "Installing JupyterLab into .venv (once; a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,notebooks]'
	@$(BIN)/python -m ipykernel install --sys-prefix --name spatialseg --display-name spatialseg >/dev/null
	@touch $@

notebook: $(JUPYTER) ## Open the notebooks in JupyterLab, with the kernel spatialseg; ARGS goes to it
	@$(BIN)/python -m jupyterlab --notebook-dir . --LabApp.default_url=/lab/tree/notebooks $(ARGS)

clean: ## Remove .venv and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
