# Everything a developer types. `make` alone prints the list.

# rustup's folder, for shells that were open before Rust was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## See it work: the whole thing on a throw-away PostgreSQL
	@scripts/setup build
	@bin=$$(scripts/postgres) && SCHOOLBELL_POSTGRES_BIN=$$bin cargo run --release --quiet --locked -- demo

# The integration tests run last, so that their result is what a reader sees at the end.
.PHONY: test
test: ## Check format, lints and documentation, then run all tests
	@scripts/setup build lints pooler browser
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	cargo test --locked --doc
	bin=$$(scripts/postgres) && SCHOOLBELL_POSTGRES_BIN=$$bin scripts/run-tests

.PHONY: test-all
test-all: ## Run all tests on each supported PostgreSQL (VERSIONS="14 18", "14/18" for source and target)
	@scripts/setup build pooler
	scripts/test-all $(VERSIONS)

.PHONY: torture
torture: ## Inject faults for ten minutes (SCHOOLBELL_TORTURE_SECONDS) and print the matrix
	@scripts/setup build
	bin=$$(scripts/postgres) && SCHOOLBELL_POSTGRES_BIN=$$bin cargo test --locked --test it -- --ignored --exact \
		--nocapture service::torture::the_whole_fault_matrix_leaves_every_row_right

.PHONY: bench
bench: ## Measure every goal against its baseline (ONLY=latency,live; QUICK=1)
	@scripts/setup build
	bin=$$(scripts/postgres) && SCHOOLBELL_POSTGRES_BIN=$$bin ONLY=$(ONLY) QUICK=$(QUICK) \
		cargo bench --locked --quiet --bench bridge

.PHONY: bench-rivals
bench-rivals: ## Measure what one would use instead (needs Node.js and the network)
	@$(MAKE) --no-print-directory bench ONLY=rivals

.PHONY: build
build: ## Build target/release/schoolbell
	@scripts/setup build
	cargo build --release --locked

.PHONY: docs
docs: ## Build the book of docs/ into target/book
	scripts/book

.PHONY: fmt
fmt: ## Format the Rust code
	@scripts/setup build lints
	cargo fmt
