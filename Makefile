# One entry point for people and for CI. `make help` lists the targets.
#
# Everything that can be rebuilt lives in target/ (Cargo), build/ (the enclave image), .venv/ and .cache/ (compiled
# guest programs, tools' caches, stamps); all of it may be deleted at any time: `make clean`.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
OCCLUM := $(BIN)/occlum
IMAGE := build/enclave/occlum-libos.elf
PACKAGED := python/occlum/_data/occlum-libos.elf
PYTEST := $(BIN)/python -m pytest -o cache_dir=.cache/pytest
RUFF := $(BIN)/ruff
STAGES := setup build lint docs rust python guest security
CAMPAIGNS := translator-fuzz verifier-fuzz syscall-fuzz hostile-host

export RUFF_CACHE_DIR := $(CURDIR)/.cache/ruff
export MYPY_CACHE_DIR := $(CURDIR)/.cache/mypy
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Prints how many minutes the commands took, also when make runs one stage alone.
define timed
start=$$(date +%s.%N); \
finish() { status=$$?; awk -v s=$$start -v e=$$(date +%s.%N) -v c=$$status \
  'BEGIN { printf "== $@: %s in %.1f min\n", c ? "FAILED" : "done", (e - s) / 60 }'; }; \
trap finish EXIT; $(1)
endef

.PHONY: help run test quick bench conformance soak sealed-campaign sealed-bench clean format tutorial-test wheel $(STAGES)

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: setup build ## Builds all and runs the demo: a script of 800 processes inside one enclave.
	@echo "== .venv/bin/occlum try busybox sh examples/pipelines.sh 100"
	@$(OCCLUM) try --stats busybox sh examples/pipelines.sh 100

test: ## Runs every test, stage by stage: what CI runs.
	@for stage in $(STAGES); do $(MAKE) $$stage; done

quick: setup build ## Runs the tests that take seconds.
	@$(PYTEST) -m "not slow" tests/unit

setup: ## Installs what this machine lacks; sets up .venv.
	@$(call timed,$(PYTHON) tools/setup.py)

build: ## Builds the enclave image and the Python package into .venv.
	@$(call timed,$(MAKE) .image .package)

.PHONY: .image .package
# Cargo and maturin know themselves what has changed.
.image:
	@$(PYTHON) tools/build_enclave.py --output $(IMAGE)
	@cmp -s $(IMAGE) $(PACKAGED) || { mkdir -p $(dir $(PACKAGED)) && install -m 644 $(IMAGE) $(PACKAGED); }

.package:
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --quiet

lint: ## Checks formatting, lints and types of both languages.
	@$(call timed,\
	  cargo fmt --all --check && \
	  cargo clippy --workspace --exclude occlum-blob --quiet -- --deny warnings && \
	  cargo clippy -p occlum-pal --features hostile --examples --quiet -- --deny warnings && \
	  $(RUFF) check --quiet && $(RUFF) format --check --quiet && $(BIN)/mypy)

# The fuzzers' slices: so many seconds each, from another seed with each commit. The verifier also as it is shipped: a
# compiler's mistake there would be a hole.
rust: export OCCLUM_TEST_SEED = $(shell printf %d 0x$$(git rev-parse --short=8 HEAD 2>/dev/null || echo 1))
rust: export OCCLUM_TEST_SECONDS = 15
rust: ## Runs the Rust tests.
	@$(call timed,echo "seed: $$OCCLUM_TEST_SEED" && cargo test --quiet && \
	  cargo test --quiet --profile enclave -p occlum-sfi-verifier)

python: ## Runs the Python unit tests (layers, measurement, command line, forbidden instructions).
	@$(call timed,$(PYTEST) tests/unit)

guest: ## Runs real programs natively and in the enclave and compares.
	@$(call timed,$(PYTEST) tests/guest tests/apps tests/sdk && \
	  $(BIN)/python tools/conformance.py run --seconds 30 \
	    --seed $$(printf %d 0x$$(git rev-parse --short=8 HEAD 2>/dev/null || echo 1)))

security: ## Runs the hostile guests and the hostile files.
	@$(call timed,$(PYTEST) tests/security)

# Campaigns run for an hour and write a record; `make translator-fuzz CAMPAIGN_OPTIONS="--shards 2"`.
.PHONY: $(CAMPAIGNS) replay mutation
translator-fuzz: CAMPAIGN = translator
translator-fuzz: ## Long: random sequences of instructions on hardware and translated.
verifier-fuzz: CAMPAIGN = verifier
verifier-fuzz: ## Long: mutants of accepted code before the verifier.
syscall-fuzz: CAMPAIGN = syscalls
syscall-fuzz: ## Long: hostile system calls beside a neighbour who must not notice.
hostile-host: CAMPAIGN = hostile-host
hostile-host: ## Long: a host that lies about every OCALL's results.
$(CAMPAIGNS):
	@mkdir -p docs/records
	@$(call timed,$(PYTHON) tools/campaign.py run $(CAMPAIGN) --record docs/records/$$(date +%F)-$(CAMPAIGN).md \
	  $(CAMPAIGN_OPTIONS))

# Checks are taken out one at a time: the tests have to notice.
mutation: setup build ## Long: removes checks of the verifier and of the LibOS's boundary; writes docs/records.
	@$(call timed,cargo test --quiet -p occlum-sfi-verifier --features mutate --test mutation && \
	  for subject in verifier boundary; do \
	    $(PYTHON) tools/mutate.py $$subject --record docs/records/$$(date +%F)-mutation-$$subject.md $(MUTATION_OPTIONS); \
	  done)

replay: ## Repeats a shard of a recorded campaign: make replay RECORD=docs/records/X.md [SHARD=N].
	@$(call timed,$(PYTHON) tools/campaign.py replay $(RECORD) $(if $(SHARD),--shard $(SHARD)))

conformance: setup build ## Long: other people's test suites, natively and inside; writes docs/compatibility.md.
	@mkdir -p docs/records
	@$(call timed,$(BIN)/python tools/conformance.py run --record $(CONFORMANCE_OPTIONS))

soak: setup build ## Long: an hour of many kinds of work in one enclave, and what of it stays behind; writes docs/records.
	@mkdir -p docs/records
	@$(call timed,$(BIN)/python tools/soak.py --record docs/records/$$(date +%F)-soak.md $(SOAK_OPTIONS))

sealed-campaign: ## Long: crashes, tampering and fsx on sealed storage; writes docs/records.
	@mkdir -p docs/records
	@$(call timed,$(PYTHON) tools/sealed_campaign.py --record docs/records/$$(date +%F)-sealed-storage.md $(CAMPAIGN_OPTIONS))

sealed-bench: setup build ## Long: sealed storage beside ext4, gocryptfs and encfs; writes docs/records.
	@mkdir -p docs/records
	@$(call timed,$(BIN)/python tools/sealed_bench.py --record docs/records/$$(date +%F)-sealed-figures.md $(BENCH_OPTIONS))

bench: setup build ## Measures against native Linux; results in build/bench.
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/python -m pip install --quiet 'matplotlib>=3.8,<4'
	@$(BIN)/python tools/bench.py --output build/bench $(BENCH_OPTIONS)

docs: setup build ## Builds the documentation site into build/site; warnings are errors.
	@$(call timed,NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict)

tutorial-test: setup ## Long: clones, builds as the README says, and runs every command of README, tutorial and guides.
	@$(call timed,$(BIN)/python tools/doc_commands.py --fresh-clone)

wheel: setup ## Builds the wheel into build/wheel: what users install, with the enclave image inside.
	@$(call timed,$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel . && ls -l build/wheel)

format: ## Formats both languages.
	@cargo fmt --all && $(RUFF) check --quiet --fix && $(RUFF) format --quiet

clean: ## Deletes everything that can be rebuilt.
	rm -rf target build .venv .cache python/occlum/_data python/occlum/*.so
