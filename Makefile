# `make help` lists the targets.

KERNELS ?= 5.10 6.1 6.12 7.2
KERNEL  ?= 6.12
TEST    ?= all
RUNTIME ?= crun
NODES   ?= 1
CGROUP_DRIVER ?= cgroupfs

OUT := target/x86_64-unknown-linux-gnu
VM  := $(OUT)/debug/vm
CLUSTER := $(OUT)/debug/cluster
# What a guest is given, and what a cluster.
PAYLOAD = --payload $(OUT)/debug/guest:/usr/local/bin/guest --payload $(OUT)/release/mooring-enforcer:/usr/local/bin/mooring-enforcer
# What the images are built for.
TARGET  ?= x86_64-unknown-linux-gnu
IMAGES  := target/images
# Where they are pushed.
REGISTRY ?=

.PHONY: help setup build images push demo demo-standalone test soak bench lint deny unit gen gen-check vm vm-verdict vm-runc vm-shell cluster-up cluster-install cluster-env cluster-status cluster-down test-cluster test-api test-chart test-needs test-operator test-agent test-native test-pods fmt clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install what building and testing need (Debian)
	@./scripts/setup

build: setup ## Build the enforcer, the operator, the rig and the guests' tests
	cargo build --release -p mooring-node-enforcer
	cargo build --release -p mooring-operator
	cargo build -p mooring-e2e --bins

images: ## Build both images into target/images
	@./scripts/setup images $(TARGET)
	cargo build --release --target $(TARGET) -p mooring-node-enforcer
	cargo build --release --target $(TARGET) -p mooring-operator
	@./scripts/images $(TARGET) $(IMAGES)

push: ## Give both images to a registry: make push REGISTRY=registry.example.com/mooring
	@./scripts/setup images $(TARGET)
	@./scripts/push $(TARGET) $(IMAGES) "$(REGISTRY)"

demo: build images ## Show it all in a Kubernetes cluster: a policy applied, a pod's dropped binary refused
	@./scripts/setup cluster
	@./scripts/demo $(CLUSTER) $(IMAGES)

demo-standalone: build ## Without a cluster: a drifted binary refused in a real container on the newest kernel
	@./scripts/demo-standalone $(VM) $(OUT)/release/mooring-enforcer

test: ## Everything that a change needs: lint, unit and property tests, generated files, the kernels
	@./scripts/test "$(KERNELS)"

soak: ## As test, with every suite on every kernel with every runtime (hours)
	@./scripts/test "$(KERNELS)" soak

bench: build ## Measure what the enforcer costs, against the bounds; writes docs/benchmarks.md
	@./scripts/bench "$(KERNELS)"

lint: ## Formatting of Rust and C, and clippy
	cargo fmt --all --check
	clang-format --dry-run -Werror crates/bpf/src/bpf/*.[ch]
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format Rust and C
	cargo fmt --all
	clang-format -i crates/bpf/src/bpf/*.[ch]

deny: ## Licenses, sources and versions of what is built in
	@./scripts/deny

unit: ## Unit and property tests
	cargo test --workspace

gen: ## Write the generated files
	cargo run -q -p mooring-crd --example crdgen -- .

gen-check: ## Fail when a generated file is not what `make gen` writes
	cargo run -q -p mooring-crd --example crdgen -- --check .

vm: build ## Run a guest test: make vm KERNEL=6.12 TEST=matrix/new RUNTIME=runc; with BACKEND=Kill under that one
	$(VM) run --kernel $(KERNEL) --timeout 1800 $(PAYLOAD) -- guest run $(TEST) --runtime $(RUNTIME) $(if $(BACKEND),--backend $(BACKEND)) --enforcer /usr/local/bin/mooring-enforcer

vm-verdict: build ## Compare the kernel's verdict with the reference: make vm-verdict KERNEL=5.10 ARGS='--seed 7'
	cargo build -p mooring-node-enforcer --example verdict
	$(VM) run --kernel $(KERNEL) --timeout 900 --payload $(OUT)/debug/examples/verdict:/usr/local/bin/verdict -- verdict $(ARGS)

vm-runc: setup ## Unit tests that need a real runc, in a guest: make vm-runc KERNEL=6.12
	cargo build -p mooring-e2e --bins
	tests=$$(cargo test -p mooring-node-enforcer --lib --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\)).*/\1/p') && \
	$(VM) run --kernel $(KERNEL) --payload $$tests:/usr/local/bin/enforcer-tests -- enforcer-tests --ignored real_runtime

vm-shell: build ## A shell in a guest with the enforcer: make vm-shell KERNEL=7.2
	$(VM) shell --kernel $(KERNEL) $(PAYLOAD)

cluster-up: ## A Kubernetes cluster on this machine, with guests as nodes: make cluster-up NODES=1 KERNEL=6.12
	@./scripts/setup cluster
	@cargo build -q -p mooring-e2e --bin cluster
	@$(CLUSTER) up --nodes $(NODES) --kernel $(KERNEL) --cgroup-driver $(CGROUP_DRIVER)

cluster-install: build images ## Put the operator and the agent, as built now, into the cluster, or newer builds of them
	@$(CLUSTER) install --images $(IMAGES)

cluster-env: ## What a shell needs for kubectl and Helm: eval "$(make -s cluster-env)"
	@$(CLUSTER) env

cluster-status: ## What of the cluster runs, and where its logs are
	@$(CLUSTER) status

cluster-down: ## End the cluster
	@$(CLUSTER) down

test-cluster: ## Test the cluster itself, kwok too
	@./scripts/setup cluster
	cargo test -p mooring-e2e --test cluster -- --ignored --test-threads 1

test-api: ## What a real API server makes of the API: refusals, columns, admission, rights
	@./scripts/setup cluster
	cargo test -p mooring-e2e --test api -- --ignored

test-chart: build images ## Test the chart and the images: installed, tried, upgraded and uninstalled in a cluster with a node
	@./scripts/setup cluster
	cargo test -p mooring-e2e --test chart -- --ignored --test-threads 1 --skip helm_3 --skip each_right --skip two_nodes

test-needs: build images ## Take each right on the node away from the agent's pod, and see what breaks (ten minutes)
	@./scripts/setup cluster
	cargo test -p mooring-e2e --test chart -- --ignored --nocapture each_right

test-operator: ## Test the operator against a control plane: one test by TEST=NAME
	@./scripts/setup cluster
	cargo build -p mooring-operator
	cargo test -p mooring-e2e --test operator -- --ignored --test-threads 1 --skip scale $(filter-out all,$(TEST))

test-agent: build ## Test the agent in a cluster: against a real API server, and in a pod of a real node
	@./scripts/setup cluster
	cargo build -p mooring-node-enforcer --example api
	cargo test -p mooring-e2e --test agent -- --ignored --test-threads 1

test-native: build ## On this machine's own kernel, as root: Kill and Fanotify with a real runc, and the attack matrix under both, without a cluster
	cargo test -p mooring-e2e --test native -- --ignored --test-threads 1 --skip costs
	cargo test -p mooring-node-enforcer --test fanotify -- --ignored --test-threads 1

test-pods: build images ## Every kind of pod on a real node, and what happens to a node in its life; SOAK=1 takes all of it; CGROUP_DRIVER=systemd, KERNEL=5.10 LSM=default, BACKEND=Kill
	@./scripts/setup cluster
	$(if $(SOAK),MOORING_SOAK=1) $(if $(LSM),MOORING_LSM=$(LSM)) $(if $(BACKEND),MOORING_BACKEND=$(BACKEND)) MOORING_KERNEL=$(KERNEL) MOORING_CGROUP_DRIVER=$(CGROUP_DRIVER) cargo test -p mooring-e2e --test pods -- --ignored --test-threads 1 --nocapture

clean: ## End the cluster and remove what was built; the cache stays
	@[ ! -x $(CLUSTER) ] || $(CLUSTER) down
	cargo clean
