# One entry point for people and CI. `make demo` and `make test` set up what they need and say so.

TRIPLE  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BIN     := target/$(TRIPLE)/release
KERNEL  := $(BIN)/bellows-kernel

.PHONY: help demo test check-kubernetes test-console test-image test-systemd test-kernels sim fuzz surfaces check bench deb build setup toolchain clean

help:
	@echo "make demo    six tenants on one budget: static limits, the kernel alone, bellows; metrics on 127.0.0.1:9464"
	@echo "make test    all tests, those that need a kernel in a real one (this machine's, or a guest's)"
	@echo "make test-console  the console, in a browser: needs node, npm and chromium; 5 minutes"
	@echo "make test-image  the image of deploy/Containerfile, built and run by podman: needs podman, and a registry to fetch the compiler from;"
	@echo "             with ENGINE=\"podman docker\" run by docker, too: needs dockerd"
	@echo "make test-systemd  the units and the package, under a real systemd: 8 minutes, and 40 MB to fetch; with SUITE=.."
	@echo "             under that of other Debian suites, for instance SUITE=\"bookworm trixie\": systemd 252 and 257"
	@echo "make test-kernels  the tests that need a kernel on Linux 6.1, 6.12 and 7.3, and the refusal on 5.10: an hour"
	@echo "make sim     the laws against a simulated node that goes wrong: SEED=.. (random if none), STEPS=.. (a million if none);"
	@echo "             with SCENARIO=.. drawn policies under drawn traces instead, from that seed on"
	@echo "make fuzz    hostile input that looks for code it has not reached: TARGET=.. (all in turn if none), SECONDS=.. each (60 if none);"
	@echo "             needs a C++ compiler; the first build takes some minutes"
	@echo "make deb     the Debian package: target/<triple>/release/bellows.deb; needs cargo-deb and lintian"
	@echo "make surfaces  writes docs/metrics.md, docs/json.md, the dashboards and the rules from what is in the code"
	@echo "make check   formatting, lints, tidy, licences and bans of dependencies"
	@echo "make check-kubernetes  the manifests: rendered, against Kubernetes' schemas, and what they have to say; needs kubectl"
	@echo "make bench   reaction, growth, hearing, squeezing, an idle agent, storms, takeover, launches, how many copies fit: target/bench.json; an hour"

# About three minutes; a machine that is busy otherwise may take longer. A guest cannot see whether this is a terminal.
demo: build setup
	@if [ -t 1 ]; then export BELLOWS_TERMINAL=1; fi; \
	$(KERNEL) run --memory 3G --forward 9464 --out target --timeout 420 -- $(BIN)/bellows-demo

# One profile for everything that runs, so that nothing is built twice.
test: build setup
	cargo test --release --locked --workspace --exclude bellows-tests
	$(BIN)/bellows policy test policies/presets/tests/*.toml
	cargo test --release --locked -p bellows-tests --lib --bin bellows-demo --test tidy --test native --test fuzz
	$(KERNEL) with --memory 3G --swap 1G --timeout 3300 -- \
		cargo test --release --locked -p bellows-tests --test kernel -- --test-threads=1 --show-output

# The units and the package, in a guest whose PID 1 is the real systemd, of each suite in SUITE (this machine's if none). One cpu: with two,
# that of a translated guest stood still once in a restart.
test-systemd: deb
	set -e; for suite in $(or $(SUITE),''); do \
		$(KERNEL) setup --systemd $${suite:+--suite $$suite}; \
		$(KERNEL) with --systemd $${suite:+--suite $$suite} --cpus 1 --memory 2G --timeout 1500 -- \
			cargo test --release --locked -p bellows-tests --test systemd -- --test-threads=1 --show-output; done

# The package says what is in it in agent/Cargo.toml.
deb: build
	@command -v cargo-deb >/dev/null || { echo "cargo-deb is missing: cargo install --locked cargo-deb"; exit 1; }
	@command -v lintian >/dev/null || { echo "lintian is missing: apt-get install lintian"; exit 1; }
	deploy/debian/build $(TRIPLE)
	lintian --fail-on error,warning --allow-root $(BIN)/bellows.deb

# The console in a browser of this machine, against an agent in a guest. Figures and screenshots: target/console.
test-console: build setup
	@for tool in node npm chromium; do command -v $$tool >/dev/null || { \
		echo "$$tool is missing: apt-get install nodejs npm chromium"; exit 1; }; done
	node --test tests/console/*.test.mjs
	npm ci --prefix tests/console --ignore-scripts --no-audit --no-fund --silent
	mkdir -p target/console
	$(KERNEL) with --memory 4G --forward 9464 --forward 9465 --timeout 900 -- \
		node tests/console/run.mjs $(BIN) target/console

# Built by podman on this machine and run in a guest, which is handed the image as an archive, by each engine in ENGINE (podman if none).
test-image: setup
	@command -v podman >/dev/null || { echo "podman is missing: apt-get install --no-install-recommends podman crun"; exit 1; }
	podman build -f deploy/Containerfile -t bellows .
	podman save bellows > target/image.tar
	set -e; for engine in $(or $(ENGINE),podman); do \
		$(KERNEL) --kernel qemu run --memory 2G --timeout 900 -- tests/image.sh target/image.tar $$engine; done

# What is made from the code: docs/metrics.md, docs/json.md, dashboards, rules. A test fails when they are not up to date.
surfaces: toolchain
	cargo run --release --locked -q -p bellows-tests --bin bellows-surfaces

# Each of Debian's kernels in turn, with a summary.
test-kernels: build setup
	.ci/kernels $(abspath $(KERNEL))

# A failing seed says how to repeat it.
sim: toolchain
	cargo run --release --locked -q -p bellows-tests --bin bellows-sim -- $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(STEPS),--steps $(STEPS))

# Not in `make test`: all code is compiled a second time for it. What fails is kept in target/fuzz.
fuzz: toolchain
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing: apt-get install g++"; exit 1; }
	tests/fuzz/coverage/run $(or $(SECONDS),60) $(TARGET)

check: toolchain
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/coverage/Cargo.toml --check
	cargo fetch --locked --quiet --manifest-path tests/fuzz/coverage/Cargo.toml
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --release --locked -p bellows-tests --test tidy
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny"; exit 1; }
	cargo deny --locked check bans licenses sources

# Apart from `make check`, since neither tool is a package of Debian's that is new enough.
check-kubernetes: toolchain
	@command -v kubectl >/dev/null || { echo "kubectl is missing: https://kubernetes.io/docs/tasks/tools/"; exit 1; }
	@command -v kubernetes-validate >/dev/null || { \
		echo "kubernetes-validate is missing: pip install kubernetes-validate"; exit 1; }
	@mkdir -p target/kubernetes
	for part in base overlays/complete; do kubectl kustomize deploy/kubernetes/$$part > target/kubernetes/$$(basename $$part).yaml && \
		kubernetes-validate --strict -k 1.32 target/kubernetes/$$(basename $$part).yaml || exit 1; done
	cargo test --release --locked -p bellows-tests --test kubernetes

bench: build
	$(KERNEL) setup --bench
	$(KERNEL) run --memory 4G --out target --timeout 5400 -- $(BIN)/bellows-bench

build: toolchain
	cargo build --release --locked --workspace

setup: build
	$(KERNEL) setup

toolchain:
	@command -v cargo >/dev/null || { \
		echo "Rust 1.91 or later is needed: curl https://sh.rustup.rs -sSf | sh"; exit 1; }
	@command -v cc >/dev/null || { echo "a C linker is needed: apt-get install gcc libc6-dev"; exit 1; }

clean:
	cargo clean
