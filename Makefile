# Everything a person types. Each target says what it does: `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test e2e lint unit integration generate format bundle bundle-test clean-cache docs docs-site

# uv brings Python packages from the lock file; where it is missing, it is installed into .venv-uv.
UV := $(shell command -v uv || echo .venv-uv/bin/uv)
RUN := $(UV) run --frozen

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.venv-uv/bin/uv:
	python3 -m venv .venv-uv
	.venv-uv/bin/pip install --quiet uv==0.13.9

.venv/.synced: pyproject.toml uv.lock | $(filter .venv-uv/%,$(UV))
	$(UV) sync --frozen --quiet
	@touch $@

demo: .venv/.synced ## Start a cluster, run a study of a small model, show the answer
	$(RUN) python cluster/demo.py

demo-down: ## Remove the demo's cluster and everything it started
	python3 cluster down

test: lint unit integration ## Static checks, unit tests, integration tests on a real API server

lint: .venv/.synced ## ruff, mypy, import contracts, generated files
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python tools/generate.py --check

# Brings helm too; a cluster alone leaves helm and no promtool.
.cluster/bin/promtool:
	python3 cluster binaries

unit: .venv/.synced .cluster/bin/promtool ## Unit tests
	$(RUN) pytest tests/unit --numprocesses=auto --maxprocesses=8

# Each worker has an API server of its own, and keeps a module's tests together: they share what is dear to set up.
integration: .venv/.synced ## The operator on a real kube-apiserver
	$(RUN) pytest tests/integration --numprocesses=auto --maxprocesses=4 --dist=loadscope

e2e: .venv/.synced ## The installed chart on a real node with a real vLLM
	$(RUN) pytest tests/e2e

generate: .venv/.synced ## CRDs and reference docs from the models
	$(RUN) python tools/generate.py

docs: .venv/.synced ## The documentation at http://127.0.0.1:8000, made anew on every change
	$(RUN) mkdocs serve

docs-site: .venv/.synced ## The documentation as a site in site/; a broken link ends it
	$(RUN) mkdocs build --strict

format: .venv/.synced ## Format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bundle: ## Pack all that a machine without a network needs into dist/bundle
	python3 cluster bundle

bundle-test: .venv/.synced ## The bundle on a machine without network and packages (root; minutes)
	$(RUN) pytest tests/bundle

clean-cache: ## Remove cached downloads and builds
	python3 cluster clean-cache
