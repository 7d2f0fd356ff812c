# Needs make, git and Python 3.11; everything else comes by itself.
.DEFAULT_GOAL := help
.PHONY: help run test check fmt protos bench lock clean setup-run setup-dev
MAKEFLAGS += --no-print-directory

bin := .venv/bin

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup-run ## The whole suite here, one video streaming, until Ctrl-C; DURATION=20 ends by itself
	@exec $(bin)/python -m cli suite run $(if $(DURATION),--duration $(DURATION))

test: setup-dev ## All tests; ONLY=<expression> those that match
	@exec $(bin)/python -m pytest $(if $(ONLY),-k "$(ONLY)")

check: setup-dev ## Format, lint, types, import rules, protos
	@scripts/check

fmt: setup-dev ## Format and mend what can be mended
	@$(bin)/ruff check --fix-only --quiet .
	@$(bin)/ruff format .

protos: setup-dev ## Stubs from the protos
	@scripts/protos generate

bench: setup-dev ## Figures against the floor of this machine; ONLY=<name> those whose name begins so
	@scripts/h2load
	@exec $(bin)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

lock: ## requirements/ from pyproject.toml; UPGRADE=<package>|all
	@scripts/lock

clean: ## Everything that was made here
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup-run:
	@scripts/setup run

setup-dev:
	@scripts/setup dev
