# `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that pyproject.toml allows and that can create virtual environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 \
	&& echo $$p && break; done)
BIN := .venv/bin
# Compiled once here instead of by the first commands.
INSTALL := $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python
# Renovate repeats the command that each lock begins with, and only knows long options with "=".
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version=3.11 --generate-hashes

# Airflow 2.9 needs packages from the time of its release; that time's wirerope has no wheel and no longer builds.
AIRFLOW_2_9_DAYS := --exclude-newer=2024-08-15 --exclude-newer-package=wirerope=2026-11-01

# What .venv is set up with.
EXTRAS := --extra=vertex --extra=kubeflow --extra=pandas

IMAGE_LOCKS := extract prepare train train-gpu evaluate evaluate-gpu publish publish-gpu tune tune-gpu

SAMPLE := data/ml-latest-small
DATA ?= $(SAMPLE)/ratings.csv
# Each takes 1.5 GB of memory, hence no more than 6 of them on any machine.
WORKERS ?= auto
# The sample's items are for the sample's ratings only.
ITEMS ?= $(if $(filter $(SAMPLE)/%,$(DATA)),$(SAMPLE)/movies.csv)

.PHONY: help setup run tune test test-attack test-browser test-docker test-airflow test-install test-slow \
	check conformance compile golden docs wheel images sbom audit push sign kind-up kind-load kind-run \
	kind-down bench-train bench-data bench-gpu bench-evaluate bench-pipeline bench-defaults bench-warm-start lock upgrade clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.run ## Create .venv from the hashed locks

run: .venv/.run ## Run the pipeline on this machine (DATA=my.csv for your ratings, ITEMS=items.csv)
	@$(BIN)/wals run --source '$(DATA)' $(if $(ITEMS),--items '$(ITEMS)') $(ARGS)

tune: .venv/.run ## Search for better training parameters on this machine (DATA, ITEMS and ARGS as in run)
	@$(BIN)/wals tune --source '$(DATA)' $(if $(ITEMS),--items '$(ITEMS)') $(ARGS)

compile: .venv/.run ## Write build/*.yaml to upload to Vertex AI and Kubeflow
	@$(BIN)/python compile.py

test: .venv/.dev ## Run the tests, in a process per core (WORKERS=0 for a single one)
	$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 6 --dist worksteal

test-slow: .venv/.dev ## Compare engines and whole runs, which takes minutes
	$(BIN)/python -m pytest -q -m slow -n $(WORKERS) --maxprocesses 6 --dist worksteal

test-attack: .venv/.dev ## Attack the readers of files, manifests and configuration, and what is shown
	$(BIN)/python -m pytest -q -m attack -n $(WORKERS) --maxprocesses 6 --dist worksteal

test-browser: .venv/.dev ## Read the reports in Chromium or Chrome, with axe-core (requires npm)
	$(BIN)/python -m pytest -q -m browser tests/components/reports

test-docker: .venv/.dev ## Build the images and test them and the runs in containers (requires Docker)
	$(BIN)/python -m pytest -q -m docker tests/containers

test-airflow: .venv/.dev ## Run the DAGs in Airflow 3, 2.11 and 2.9, each in its own environment
	$(BIN)/python -m pytest -q -m airflow tests/deploy/airflow

test-install: .venv/.dev ## Build the wheel, install it into new environments and use it there
	$(BIN)/python -m pytest -q -m install tests/test_packages.py tests/test_audit.py

check: .venv/.dev ## Lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples docs

GOLDEN := tests/pipeline/definition/golden

golden: .venv/.run ## Regenerate the compiled specs that tests compare with
	@$(BIN)/python compile.py --output-dir $(GOLDEN) >/dev/null
	@$(BIN)/python compile.py --target vertex --pipeline wals-train --settings $(GOLDEN)/custom-job/settings.yaml \
		--output-dir $(GOLDEN)/custom-job >/dev/null
	@$(BIN)/python -m examples.shop.pipeline tests/examples/golden >/dev/null

docs: .venv/.run ## Regenerate the generated pages of the documentation
	@for page in parameters columns; do PYTHONPATH=. $(BIN)/python docs/$$page.py || exit 1; done

conformance: .venv/.run ## Compile the specs with Kubeflow Pipelines' own back end (requires Go)
	@$(BIN)/python compile.py --target kubeflow --output-dir build/conformance >/dev/null
	@$(BIN)/python compile.py --target kubeflow --pipeline wals-train --settings conformance/secrets.yaml \
		--output-dir build/conformance/secrets >/dev/null
	cd conformance && go vet ./... && go test ./...

wheel: .venv/.run ## Build the wheel: dist/wals_pipeline-VERSION-py3-none-any.whl
	@rm -rf dist
	@$(BIN)/uv build --quiet --python $(BIN)/python --no-build-isolation --out-dir dist .
	@ls dist/*.whl

images: ## Build the steps' images (ACCELERATOR=gpu for CUDA in GPU_IMAGES='train tune', RUN_AS=0:0 for root)
	@ACCELERATOR='$(or $(ACCELERATOR),cpu)' GPU_IMAGES='$(GPU_IMAGES)' RUN_AS='$(RUN_AS)' containers/build.sh

sbom: ## List the contents of the images: build/sbom/STEP.spdx.json
	@containers/sbom.sh

audit: .venv-audit/.installed ## Fail if a locked package has a known vulnerability that is not accepted
	@.venv-audit/bin/python requirements/audit.py

push: ## Push the images and write build/images.json (REGISTRY=REGION-docker.pkg.dev/PROJECT/wals)
	@containers/push.sh '$(REGISTRY)'

sign: ## Sign the pushed images and attest their contents with cosign (KEY=gcpkms://... or a file)
	@KEY='$(KEY)' COSIGN_OPTIONS='$(COSIGN_OPTIONS)' containers/sign.sh

kind-up: ## Create a kind cluster with Kubeflow Pipelines on this machine
	@deploy/kind/kfp.sh up

kind-load: ## Load the images and ratings into the cluster (CSV=my.csv for yours)
	@deploy/kind/kfp.sh load $(CSV)

kind-run: .venv/.run ## Run the pipeline in the cluster and wait for it to end (ARGS="num_iters=20")
	@deploy/kind/kfp.sh run $(ARGS)

kind-down: ## Remove the cluster
	@deploy/kind/kfp.sh down

bench-train: .venv/.dev ## Compare training with other libraries (about 20 minutes)
	$(BIN)/python benchmarks/train.py $(ARGS)

bench-gpu: .venv/.dev ## Measure training on a GPU (6 minutes; requires CuPy with its libraries: the extra gpu)
	$(BIN)/python benchmarks/gpu.py $(ARGS)

bench-data: .venv/.dev ## Compare extraction and preparation with a pandas script
	$(BIN)/python benchmarks/data.py --millions 1 10 20 100

bench-evaluate: .venv/.dev ## Compare the ranking metrics with implicit's
	$(BIN)/python benchmarks/evaluate.py $(ARGS)

bench-pipeline: .venv/.dev ## Compare a whole run with a script with implicit (MILLIONS="1 10 20 100")
	$(BIN)/python benchmarks/pipeline.py --millions $(or $(MILLIONS),1 10 20 100) $(ARGS)

bench-defaults: .venv/.dev ## Compare what is chosen for auto with fixed values and a grid
	$(BIN)/python benchmarks/defaults.py $(ARGS)

bench-warm-start: .venv/.dev ## Count the iterations of a nightly training from yesterday's model (5 minutes)
	$(BIN)/python benchmarks/warm_start.py $(ARGS)

lock: .venv/.run ## Resolve changed dependencies into requirements/*.lock.txt; keeps the other versions
	$(LOCK) $(UPGRADE) --output-file=requirements/bootstrap.lock.txt requirements/bootstrap.in
	$(LOCK) $(UPGRADE) --output-file=requirements/audit.lock.txt requirements/audit.in
	$(LOCK) $(UPGRADE) $(EXTRAS) --output-file=requirements/run.lock.txt pyproject.toml
	$(LOCK) $(UPGRADE) --constraints=requirements/run.lock.txt --output-file=requirements/library.lock.txt pyproject.toml
	$(LOCK) $(UPGRADE) $(EXTRAS) --extra=tensorflow --group=dev --constraints=requirements/run.lock.txt \
		--output-file=requirements/dev.lock.txt pyproject.toml
	$(LOCK) $(UPGRADE) --output-file=requirements/airflow.lock.txt requirements/airflow.in
	$(LOCK) $(UPGRADE) --output-file=requirements/airflow2.lock.txt requirements/airflow2.in
	$(LOCK) $(UPGRADE) $(AIRFLOW_2_9_DAYS) --output-file=requirements/airflow2.9.lock.txt requirements/airflow2.9.in
	for image in $(IMAGE_LOCKS); do $(LOCK) $(UPGRADE) --constraints=requirements/dev.lock.txt \
		--no-emit-package=kfp-server-api --no-emit-package=kubernetes \
		--output-file=requirements/$$image.lock.txt requirements/$$image.in || exit 1; done

upgrade: ## Update all dependencies (PACKAGES="duckdb numba" for only these)
	@$(MAKE) lock UPGRADE='$(or $(PACKAGES:%=--upgrade-package=%),--upgrade)'

clean: ## Remove build output and environments; keeps runs/
	rm -rf build dist .venv .venv-*

.venv/.bootstrap: requirements/bootstrap.lock.txt
	@test -n "$(PYTHON)" || { echo "make: error: no Python 3.11, 3.12 or 3.13 with venv was found; install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock.txt
	@touch $@

.venv/.run: requirements/run.lock.txt pyproject.toml .venv/.bootstrap
	@$(INSTALL) --require-hashes -r requirements/run.lock.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@echo "Compiling kernels for this processor (once) ..."
	@$(BIN)/python -m components.miniatures
	@touch $@

.venv/.dev: requirements/dev.lock.txt .venv/.run
	@$(INSTALL) --require-hashes -r requirements/dev.lock.txt
	@touch $@

.venv-audit/.installed: requirements/audit.lock.txt .venv/.bootstrap
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-audit
	@$(BIN)/uv pip install -q --python .venv-audit/bin/python --require-hashes -r requirements/audit.lock.txt
	@touch $@
