# Everything that a developer or a user does with this repository. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help prerequisites build run test bench lint crds clean

CARGO ?= cargo
export CARGO_TERM_PROGRESS_WHEN ?= auto

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1\t/' | expand -t 18

prerequisites: ## Install what this machine lacks (bubblewrap), or say what to install
	@scripts/prerequisites

build: ## Build every program, for development
	$(CARGO) build --workspace --bins --locked

run: prerequisites ## Run Patchbay on this machine: real quilt-mcp, two users, a demo catalog
	$(CARGO) build --release --locked -p patchbay -p patchbay-worker -p patchbay-tests --bins
	@exec "$${CARGO_TARGET_DIR:-target}/release/demo"

test: prerequisites build ## Run every test, against real sandboxes
	$(CARGO) test --workspace --locked

bench: prerequisites ## Measure against the budgets (release build; figures, no verdict)
	$(CARGO) build --release --locked -p patchbay -p patchbay-worker -p patchbay-tests --bins
	@exec "$${CARGO_TARGET_DIR:-target}/release/bench"

lint: ## Check formatting, lints, and the dependency graph
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/cargo-deny check bans licenses sources

crds: ## Write crds/yaml from the API's types
	$(CARGO) run --quiet --locked -p patchbay-crds --bin crdgen

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf target/demo
