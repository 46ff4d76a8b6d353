# What there is to do with a checkout. `make` alone lists it. Nothing here needs more than Rust and a C compiler.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

RUST_NEEDED := 1.95
SEEDS ?= 1..200
# Of `make figures`: takeovers of each kind of fault, simulated and with real processes.
N ?= 1000
REAL ?= 100
# Of `make bench`: the size of a volume, how often each case, and only rows whose names contain this (local,network,...).
# PROFILE=dev measures the build that the tests start: it is made sooner, and is only lightly optimised.
SIZE_MIB ?= 1024
PROFILE ?= release
ROUNDS ?= 3
ONLY ?=
# Of `make fuzz`: which decoder, or all of them; and for how long each.
TARGET ?=
SECONDS ?= 60
# Of `make chaos`: a schedule in a file, or one drawn from a seed, and how many faults it has.
SCHEDULE ?=
SEED ?= 1
FAULTS ?= 100

.PHONY: help needs program everything demo test check sim explore chaos figures bench fuzz lab deb proof

help: ## list what can be made
	@echo 'make TARGET, where TARGET is one of:'
	sed -nE 's/^([a-z]+):[^#]*## (.*)$$/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

# Said in words, before cargo says it in its own.
needs:
	@missing() { printf 'tanist: %s\n' "$$@" >&2; exit 1; }
	command -v cargo >/dev/null || missing 'cargo is missing. Install Rust $(RUST_NEEDED) or later from https://rustup.rs'
	found=$$(rustc --version | sed -nE 's/^rustc ([0-9]+\.[0-9]+).*/\1/p')
	[ "$$(printf '%s\n' $(RUST_NEEDED) "$$found" | sort -V | head -n 1)" = $(RUST_NEEDED) ] ||
	    missing "Rust $(RUST_NEEDED) or later is needed, and this is $$found." 'With rustup: rustup update stable'
	command -v cc >/dev/null ||
	    missing 'a C compiler is missing: SQLite and the cryptographic library are compiled from source.' \
	            'Debian, Ubuntu: apt-get install gcc libc6-dev    Fedora: dnf install gcc'

program: needs
	@cargo build --package tanist

# The tests and the programs that they start, in one build: cargo would otherwise compile some of it twice, once for each choice
# of features.
everything: needs
	@cargo build --workspace --all-targets

demo: program ## see two takeovers at work on this machine, in about a minute
	@"$${CARGO_TARGET_DIR:-target}/debug/tanist" demo

test: everything ## run every test
	@if cargo nextest --version >/dev/null 2>&1; then
	    cargo nextest run --workspace --no-fail-fast
	    cargo test --workspace --doc
	else
	    cargo test --workspace --no-fail-fast
	fi

check: needs ## formatting, lints, imports, style, dependencies: what .ci/run checks besides the tests
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo run --quiet --package xtask -- imports
	cargo run --quiet --package xtask -- style
	cargo run --quiet --package xtask -- links
	if cargo deny --version >/dev/null 2>&1; then
	    cargo deny --log-level warn check --hide-inclusion-graph bans licenses sources
	else
	    echo 'cargo-deny is not installed, so the dependencies were not checked: cargo install --locked cargo-deny'
	fi

sim: needs ## simulate these seeds: make sim SEEDS=1..2000
	@cargo run --package tanist-sim -- --seeds $(SEEDS)

explore: needs ## walk through every order of a few takeovers: make explore FULL=1 for the large worlds
	@cargo run --package tanist-explore -- $(if $(FULL),--full)

chaos: everything ## faults on real processes: make chaos SEED=1 FAULTS=100, or SCHEDULE=tests/schedules/NAME.json
	@"$${CARGO_TARGET_DIR:-target}/debug/tanist-chaos" \
	    $(if $(SCHEDULE),--schedule $(SCHEDULE),--seed $(SEED) --faults $(FAULTS))

figures: everything ## measure takeovers and write docs/figures.md: make figures N=1000 REAL=100
	@about() {
	    printf '# date: %s\n# cpus: %s\n# kernel: %s\n# command: make figures N=%s REAL=%s\n' \
	        "$$(date -u +%F)" "$$(nproc)" "$$(uname -sr | cut -d- -f1)" $(N) $(REAL)
	}
	cargo run --quiet --package tanist-sim -- --figures $(N) >"$${CARGO_TARGET_DIR:-target}/simulated.tsv"
	TANIST_FIGURES=$(REAL) TANIST_FIGURES_FILE="$$(realpath "$${CARGO_TARGET_DIR:-target}")/real.tsv" \
	    cargo test --workspace --test figures -- --nocapture
	for kind in simulated real; do
	    { about; cat "$${CARGO_TARGET_DIR:-target}/$$kind.tsv"; } >docs/figures/$$kind.tsv
	done
	cargo run --quiet --package xtask -- figures

bench: needs ## measure tanist beside other tools and write docs/performance.md: make bench SIZE_MIB=4096 ROUNDS=5 ONLY=local
	@cargo build --profile $(PROFILE) --package tanist --package tanist-bench
	target="$${CARGO_TARGET_DIR:-target}"
	"$$target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/tanist-bench" measure --size-mib $(SIZE_MIB) --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY)) --folder "$$target/bench"

fuzz: needs ## look for what a decoder cannot bear: make fuzz TARGET=gate SECONDS=600
	@missing() { printf 'tanist: %s\n' "$$@" >&2; exit 1; }
	rustup toolchain list 2>/dev/null | grep --quiet '^nightly' ||
	    missing 'fuzzing needs a nightly compiler for its instrumentation: rustup toolchain install nightly --profile minimal'
	cargo fuzz --version >/dev/null 2>&1 || missing 'cargo-fuzz is missing: cargo install cargo-fuzz --locked'
	fuzz/run $(SECONDS) $(TARGET)

lab: program ## try it on real LVM, in a virtual machine; skipped where QEMU is missing
	@lab/run "$${CARGO_TARGET_DIR:-target}/debug/tanist"

deb: needs ## the Debian package, optimised: target/debian/tanist_VERSION_ARCHITECTURE.deb
	@target="$${CARGO_TARGET_DIR:-target}"
	command -v dpkg-shlibdeps >/dev/null || { echo 'tanist: dpkg-shlibdeps is missing: apt-get install dpkg-dev' >&2; exit 1; }
	cargo build --release --package tanist
	cargo run --quiet --package xtask -- deb "$$target/release/tanist" "$$target/debian"

proof: everything ## the long forms: 20,000 simulated seeds, the large worlds, 100 killed agents, 200 faults, the figures; takes long
	@cargo run --package tanist-sim -- --seeds 1..20000
	cargo run --package tanist-explore -- --full
	TANIST_KILLS=100 TANIST_VOLUME_MIB=1024 TANIST_STOP_SECONDS=20 TANIST_PARTITIONS=100 TANIST_HANDOVERS=100 TANIST_DELTA_GIB=4 TANIST_FAULTS=200 \
	    cargo test --workspace --no-fail-fast
	$(MAKE) figures
