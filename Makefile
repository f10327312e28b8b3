# Two commands matter: `make up` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export CARGO_TERM_COLOR ?= auto

help: ## list what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

up: ready ## a hybrid multi-tenant cluster on this machine, from nothing to a table of tenants
	@cargo build --release --locked --bin cotenant
	@target/release/cotenant up

down: ready ## remove that cluster: every process, namespace, mount, cgroup, rule and file outside the cache
	@cargo build --release --locked --bin cotenant
	@target/release/cotenant down

status: ## the table of tenants again
	@target/release/cotenant status

test: ready ## everything that CI runs: format, lints, generated files, licences, unit, integration and end-to-end tests
	@bash .ci/test

generate: ready ## write CRDs and RBAC into the chart from the code
	@cargo run --locked -q -p xtask -- generate

bench: ready ## whole-process benchmarks, one JSON line a figure
	@cargo build --release --locked --bin cotenant
	@cargo run --locked -q -p xtask -- bench

soak: ready ## long races for limits while operators are killed, one JSON line a race; about half an hour
	@cargo build --release --locked --bin cotenant
	@cargo run --locked -q -p xtask -- soak

ready:
	@bash .ci/ready

.PHONY: help up down status test generate bench soak ready
