# Everything that a developer or a user does with this repository. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help prerequisites build run test conformance acceptance acceptance-table fuzz bench lint crds clean worker-static controller-static images image-archives cluster cluster-up cluster-down test-cluster bench-clients bench-cluster

CARGO ?= cargo
CLUSTER = "$${CARGO_TARGET_DIR:-target}/debug/cluster"
ACCEPTANCE = "$${CARGO_TARGET_DIR:-target}/debug/acceptance"
export CARGO_TERM_PROGRESS_WHEN ?= auto

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1\t/' | expand -t 21

prerequisites: ## Install what this machine lacks (bubblewrap), or say what to install
	@scripts/prerequisites

build: ## Build every program, for development
	$(CARGO) build --workspace --bins --locked

worker-static: ## Build the worker as one static program, as its image has it; prints where it is
	@scripts/static-program patchbay-worker

controller-static: ## The same of the controller
	@scripts/static-program patchbay

images: ## Make the root file systems of all images, with bills of materials; prints where they are
	@scripts/image-root controller
	@scripts/image-root worker
	@scripts/image-root quilt

run: prerequisites ## Run Patchbay on this machine: real quilt-mcp, two users, a demo catalog
	$(CARGO) build --release --locked -p patchbay -p patchbay-worker -p patchbay-tests --bin patchbay --bin patchbay-worker --bin demo
	@exec "$${CARGO_TARGET_DIR:-target}/release/demo"

test: prerequisites build ## Run every test, against real sandboxes
	$(CARGO) test --workspace --locked --no-fail-fast

conformance: prerequisites build ## Run MCP's official conformance suite, directly and through Patchbay; a line for each
	$(CARGO) test --workspace --locked --test conformance -- --nocapture

cluster-up: cluster ## Bring up a Kubernetes cluster on this machine; prints its kubeconfig
	@$(CLUSTER) up

cluster-down: cluster ## Take that cluster down; nothing is left
	@$(CLUSTER) down

image-archives: build worker-static ## Write the images of `KUBECONFIG=... make test-cluster` to target/images
	@$(CLUSTER) images target/images

ifdef KUBECONFIG
test-cluster: build worker-static
	$(CARGO) test --workspace --locked --features patchbay-tests/cluster --test cluster_anywhere -- --nocapture
else
test-cluster: export PATCHBAY_CLUSTER_DIRECTORY ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/patchbay/cluster-test
test-cluster: cluster images worker-static ## Run the tests that need a Kubernetes cluster, on one made for them; on that of KUBECONFIG, those for any
	@trap '$(CLUSTER) down --keep-logs target/cluster-logs' EXIT; $(CLUSTER) down; $(CLUSTER) up >/dev/null; \
	  $(CARGO) test --workspace --locked --no-fail-fast --features patchbay-tests/cluster --test 'cluster_*'
endif

# with everything else, so that what they have in common is built once
cluster: build

acceptance: ## Run every test there is, and say of each promise whether it holds
	@mkdir -p target/acceptance
	@-$(MAKE) --no-print-directory test 2>&1 | tee target/acceptance/test.log
	@-$(MAKE) --no-print-directory test-cluster 2>&1 | tee target/acceptance/test-cluster.log
	@$(ACCEPTANCE) judge target/acceptance/test.log target/acceptance/test-cluster.log

acceptance-table: build ## Write docs/acceptance.md from tests/acceptance.yaml
	@$(ACCEPTANCE) table > docs/acceptance.md

fuzz: ## Try inputs on the fuzz targets for FUZZ_SECONDS each (20)
	@scripts/fuzz

bench: prerequisites ## Measure against the budgets (release build; figures, no verdict)
	$(CARGO) build --release --locked -p patchbay -p patchbay-worker -p patchbay-tests --bins
	@exec "$${CARGO_TARGET_DIR:-target}/release/bench"

bench-clients: prerequisites ## Measure each official client's first contact where no worker is warm (release build)
	$(CARGO) build --release --locked -p patchbay -p patchbay-worker -p patchbay-tests --bin patchbay --bin patchbay-worker --bin bench
	@exec "$${CARGO_TARGET_DIR:-target}/release/bench" cold

bench-cluster: export PATCHBAY_CLUSTER_DIRECTORY ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/patchbay/cluster-bench
bench-cluster: ## Measure ten thousand tenants on a Kubernetes cluster made for it (release build; figures, no verdict)
	$(CARGO) build --release --locked -p patchbay -p patchbay-tests --bin patchbay --bin bench --bin cluster
	@programs="$${CARGO_TARGET_DIR:-target}/release"; trap '$$programs/cluster down' EXIT; \
	  $$programs/cluster down; $$programs/bench cluster

lint: ## Check formatting, lints, and the dependency graph
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features patchbay-tests/cluster --locked -- -D warnings
	scripts/cargo-deny check bans licenses sources

crds: ## Write crds/yaml, the chart's copy and docs/reference/crds.md from the API's types
	$(CARGO) run --quiet --locked -p patchbay-crds --bin crdgen
	rm -rf charts/patchbay/crds-yaml && cp -r crds/yaml charts/patchbay/crds-yaml

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf target/demo
