# The two commands: `make run` starts a relay, `make test` proves everything. The rest is for those who work on it.

DATA ?= .data
LISTEN ?= 127.0.0.1:3030

.PHONY: run test bench lint interop

## Builds what is needed and starts the relay; prints where it listens.
run:
	cargo build --release --locked -p rejoin-relay
	./target/release/rejoin-relay serve --data $(DATA) --listen $(LISTEN)

## Installs what the tests need and runs them all.
test: interop
	cd tests/interop && npm test
	cargo build --workspace --locked --examples --bins
	cargo test --workspace --locked --doc
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked --no-fail-fast; \
	else \
		cargo test --workspace --locked --no-fail-fast --lib --bins --tests; \
	fi

## Measures against the peers; ratios are taken in one run.
bench: interop
	cargo build --release --locked --bins
	cargo bench --locked -p rejoin --bench fields
	cargo bench --locked -p rejoin --bench size
	cargo bench --locked -p rejoin --bench open
	cargo bench --locked -p rejoin-tests --bench fanout
	cargo bench --locked -p rejoin-tests --bench fanout_v1
	cargo bench --locked -p rejoin-tests --bench ack
	cargo bench --locked -p rejoin-tests --bench first_sync
	cargo bench --locked -p rejoin-tests --bench reconnect
	cargo bench --locked -p rejoin-tests --bench fetch
	cargo bench --locked -p rejoin-tests --bench idle

## What CI checks besides the tests.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The real automerge-repo, for the interop scenarios. Installed afresh whenever its lock file changes.
interop: tests/interop/node_modules/.package-lock.json

tests/interop/node_modules/.package-lock.json: tests/interop/package-lock.json
	@node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' || { echo "Node 20 or newer is needed: install it and try again"; exit 1; }
	cd tests/interop && npm ci
