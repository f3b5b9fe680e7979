# Each target calls cargo or one script. On a fresh Debian `make test` and `make demo` are all it takes: they
# install what is missing. PATH: named and nginx are in /usr/sbin, a new cargo may be in ~/.cargo/bin.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
PREFIX ?= /usr/local
SEEDS ?= 1000

all: ## the program, target/release/picored
	@scripts/setup build
	cargo build --release --locked

demo: ## three servers, failures and the DNS records that follow; EMBEDDED=1: without BIND and nginx
	@scripts/setup $(if $(filter-out 0,$(EMBEDDED)),embedded,demo)
	cargo build --release --locked
	@scripts/demo

test: ## all tests: unit, golden vectors, simulation, end to end, handlers, real peers
	@scripts/setup test
	@scripts/test

interop: ## picored among real Serf agents and memberlist programs; prints the matrix
	@scripts/setup test
	@scripts/interop

acceptance: ## what happens to DNS records when networks are cut and servers die; prints a table, Serf beside picored
	@scripts/setup test
	@scripts/acceptance

supervision: ## picored under cron daemons, systemd's protocol, runit, s6 and OpenRC; two minutes, for cron takes them
	@scripts/setup test
	@cargo test --locked --test supervision -- --test-threads=24

check: ## before every commit: formatting, lints, the house rules
	@scripts/setup check
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --test interop --test acceptance --test supervision --locked -- -D warnings
	cargo test --locked --test tidy

sim: ## many simulated clusters: make sim SEEDS=5000
	SEEDS=$(SEEDS) cargo test --locked --test sim swarm::swarm -- --exact

static: ## target/static/picored-x86_64: one file that runs on any Linux; ARCH=aarch64 with rustup's target for it
	@ARCH="$(ARCH)" scripts/setup static
	@ARCH="$(ARCH)" scripts/static

dist: ## what is given to others: target/dist/picored-VERSION-linux-ARCH.tar.gz and a .deb, with checksums
	@ARCH="$(ARCH)" scripts/setup dist
	@ARCH="$(ARCH)" scripts/static
	@ARCH="$(ARCH)" scripts/dist

rss: ## what a running picored costs: memory, processor time, wake-ups, bytes; SOAK=864: a day's events, too
	@scripts/setup test
	@[ -x target/static/picored-$$(uname -m) ] || scripts/static
	@scripts/rss

bench: ## picored beside Serf, memberlist, keepalived and monit: cost and speed; QUICK=1; README=README.md: into there
	@scripts/setup bench
	@[ -x target/static/picored-$$(uname -m) ] || scripts/static
	@scripts/bench $(README)

install: ## on this machine: DESTDIR= PREFIX=/usr/local; scripts/install HOST... does it by ssh
	@scripts/install-local "$(DESTDIR)" "$(PREFIX)"

help: ## this list
	@sed -n 's/^\([a-z]*\): ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: all demo test interop acceptance supervision check sim static dist rss bench install help
