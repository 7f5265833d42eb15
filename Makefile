# The two commands: `make run` starts a relay with the web demo, `make test` proves everything. The rest is for those who work on it.

DATA ?= .data
LISTEN ?= 127.0.0.1:3030
SAID := $(CURDIR)/target/said
# Where Rust puts what is built for this machine by name.
HOST = $(shell rustc -vV | sed -n "s/^host: //p")

.PHONY: run static demo package binaries test every-test test-rust test-js test-wasm test-browser test-bench fuzz-smoke fuzz fuzz-gate fuzz-honest
.PHONY: bench bench-native bench-peers sim torture lint interop tools

## Builds what is needed and starts the relay with the web demo; prints where it listens.
run: demo static
	./target/$(HOST)/release/rejoin-relay serve --open --data $(DATA) --listen $(LISTEN) --demo web-demo/dist

# What stands first is done first, and everything once.
.NOTPARALLEL:

## The relay as one file that needs no library of the system it runs on: target/<host>/release/rejoin-relay.
static:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked -p rejoin-relay --target $(HOST)
	@if readelf -l target/$(HOST)/release/rejoin-relay 2>/dev/null | grep INTERP; then echo "the relay is not static" >&2; exit 1; fi

## Installs what the tests need and runs them all; then searches all that relays logged and tests printed for secrets and contents.
test:
	rm -rf $(SAID) target/nextest && mkdir -p $(SAID)
	bash -o pipefail -c 'REJOIN_RELAY_LOG_FILE="$(SAID)/relay.log" $(MAKE) --no-print-directory every-test 2>&1 | tee "$(SAID)/output.txt"'
	./target/debug/rejoin-tests-said --log "$(SAID)/relay.log" --output "$(SAID)/output.txt" \
		$$(ls target/nextest/default/junit.xml 2>/dev/null | sed "s/^/--output /")

every-test: interop package demo binaries test-js test-wasm test-browser fuzz-smoke test-rust

## Everything in Rust.
test-rust: interop binaries
	cd tests/interop && npm test
	cargo test --workspace --locked --doc
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked --no-fail-fast; \
	else \
		cargo test --workspace --locked --no-fail-fast --lib --bins --tests; \
	fi

## Some of every fuzz target, two at a time: four minutes, and always as many inputs. SEED=N goes another way.
fuzz-smoke: binaries
	./target/debug/rejoin-tests-fuzz --all --jobs 2 --smoke --seed $(or $(SEED),1)

## An hour of fuzzing on two cores, by a seed of the day. What is found is written to target/fuzz.
fuzz: binaries
	./target/debug/rejoin-tests-fuzz --all --jobs 2 --seconds 900 --seed $$(date +%s)

## Ten million inputs for the gate: hours on one core. A million honest histories: ten minutes.
fuzz-gate: binaries
	./target/debug/rejoin-tests-fuzz --target gate --inputs 10000000 --seed $(or $(SEED),1)

fuzz-honest: binaries
	./target/debug/rejoin-tests-fuzz --honest 1000000

## The npm package without a browser: types, TypeScript's tests on a stand-in and on the real engine, sizes.
test-js: package
	cd wasm && npm run types && npm test && npm run test:real && npm run size

## The engine's store over OPFS, in a worker of real Chromium, from Rust.
test-wasm: tools chromium
	PATH="$(CURDIR)/target/tools/bin:$$PATH" CHROMEDRIVER=/usr/bin/chromedriver \
		CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
		cargo test --locked -p rejoin-wasm --target wasm32-unknown-unknown --test store

## The npm package, its fixtures, the demo and stock automerge-repo in real Chromium.
test-browser: package demo binaries interop chromium
	cd wasm && npm run e2e && npm run e2e:real
	cd wasm/fixtures && npm ci && node run.mjs
	cd web-demo && npm test
	cd tests/interop && npm run browser

## The conformance kit by itself, against our relay, with a line for each session. `make test` runs it against others too.
.PHONY: conformance
conformance:
	cargo build --locked -p rejoin-relay
	cd tests/conformance && node run.mjs --frames && node check.mjs
	for protocol in classic v1; do \
		node tests/conformance/run.mjs --protocol $$protocol --strict --implementation rejoin --server \
			"./target/debug/rejoin-relay serve --open --admin-enabled=false --data {dir} --listen 127.0.0.1:0" || exit 1; \
	done

## Every workload of the benchmark suite, in small, with ours and two peers: none of it is broken.
test-bench: package binaries tests/bench/node_modules/.package-lock.json
	cd tests/bench && npm test

# The relay and the programs that tests run: their runner does not build those of other packages.
binaries:
	cargo build --workspace --locked --examples --bins

## The npm package in wasm/dist: the engine as WASM, the TypeScript around it.
package: tools wasm/node_modules/.package-lock.json
	cd wasm && npm run build

## The web demo in web-demo/dist.
demo: package web-demo/node_modules/.package-lock.json
	cd web-demo && npm run build

## Measures against the peers; ratios are taken in one run.
bench: bench-native bench-peers

bench-native: interop
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
	cargo bench --locked -p rejoin-tests --bench crowd
	cargo bench --locked -p rejoin-tests --bench storm
	cargo bench --locked -p rejoin-tests --bench costly
	cargo bench --locked -p rejoin-tests --bench slow
	cargo bench --locked -p rejoin-tests --bench revoke

## Tortures clients and a relay for MINUTES, half an hour long, by the schedule of SEED, and checks what they said: tests/docs/torture.md.
torture:
	cargo build --release --locked -p rejoin-relay -p rejoin-tests --bins
	./target/release/rejoin-tests-torture --minutes $(or $(MINUTES),30) --seed $(or $(SEED),$(shell date +%s))

## Measures this package and relay against all peers, from Node: tests/bench/RESULTS.md and its charts. About 20 minutes.
bench-peers: package tests/bench/node_modules/.package-lock.json
	cargo build --release --locked -p rejoin-relay
	cargo build --release --locked -p rejoin-tests --bin rejoin-tests-samod-server
	cd tests/bench && npm rebuild sqlite3 --ignore-scripts=false && node run.mjs

## Simulates devices and relays from one seed after the other, for MINUTES on all cores; prints steps an hour.
sim:
	cargo run --locked -p rejoin-tests --bin rejoin-tests-simulate -- --minutes $(or $(MINUTES),10)

## What CI checks besides the tests.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Rust's target for the browser, and Node.
tools:
	@node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' || { echo "Node 20 or newer is needed: install it and try again"; exit 1; }
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

# The browser of the tests, from Debian's packages.
.PHONY: chromium
chromium:
	@test -x /usr/bin/chromium -a -x /usr/bin/chromedriver || { apt-get update && apt-get install -y chromium chromium-driver; }

# The real automerge-repo, for the interop scenarios. Installed afresh whenever its lock file changes.
interop: tools tests/interop/node_modules/.package-lock.json

# The demo has the package as a link to its folder; so both are installed afresh whenever their lock files change.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci
