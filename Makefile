# Every task of the project. `make` alone explains them.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
UV := .venv/uv/bin/uv
STAMP := .venv/stamp
STATE ?= .state/up
UP_OPTIONS ?=
TESTS ?=
BASELINE ?=
BENCH_OPTIONS ?=
LOAD ?= short
LOAD_OPTIONS ?=

PACKAGES := $(wildcard */pyproject.toml */*/pyproject.toml)
LOCKS := requirements.lock packages.txt deploy/local/uv.lock.txt

.PHONY: help setup up down wipe env status test chaos lint demo bench bench-stock bench-coupon bench-bottlenecks load lock format kafka-pin

help:  ## show this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-18s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  STATE=DIR of up, down, wipe, env, status: another state folder than .state/up"
	@echo "  UP_OPTIONS=...: see '$(PYTHON) -m local_stack up --help', as in --replicas stock=3"
	@echo "  TESTS=...: what pytest is given, as in TESTS='services/stock -k reserve'"
	@echo "  BASELINE=FILE: figures of an earlier bench to compare with, as in loadtest/reports/x.json"
	@echo "  BENCH_OPTIONS=...: see '$(PYTHON) -m bench run --help' (or stock, coupon, bottlenecks), as in '--repeats 6'"
	@echo "  LOAD=SCENARIO: short, journey, arrivals, flash-sale or coupon-rush"
	@echo "  LOAD_OPTIONS=...: see '$(PYTHON) -m bench load --help', as in '--thresholds workshop'"
	@echo "  KAFKA_BOOTSTRAP_SERVERS=host:port in the environment: use that broker, start none"

setup: $(STAMP)  ## make .venv with all that is needed; at once where nothing changed

$(STAMP): $(LOCKS) $(PACKAGES)
	@deploy/local/setup

up: $(STAMP)  ## start the whole system in the background and wait until it is healthy
	@$(PYTHON) -m local_stack up --state $(STATE) $(UP_OPTIONS)

down: $(STAMP)  ## stop it
	@$(PYTHON) -m local_stack down --state $(STATE)

wipe: $(STAMP)  ## stop it and delete its data
	@$(PYTHON) -m local_stack wipe --state $(STATE)

env: $(STAMP)  ## print its addresses and pids as NAME=value
	@$(PYTHON) -m local_stack env --state $(STATE)

status: $(STAMP)  ## print how each of its parts is
	@$(PYTHON) -m local_stack status --state $(STATE)

test: $(STAMP)  ## run every test, on a stack of their own
	@$(PYTHON) -m local_stack check
	@$(PYTHON) -m pytest $(TESTS)

lint: $(STAMP)  ## check style, types, layers and contracts; every check runs, whatever fails
	@failed=; check() { "$$@" || failed="$$failed '$$*'"; }; \
	check $(PYTHON) -m ruff check .; \
	check $(PYTHON) -m ruff format --check .; \
	check $(PYTHON) -m mypy; \
	check .venv/bin/lint-imports; \
	check $(PYTHON) -m shared.contracts.generate --check; \
	check $(PYTHON) -m shared.contracts.compatibility; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

chaos: $(STAMP)  ## run the long forms of the tests: 2,000 orders, every part killed twice
	@$(PYTHON) -m local_stack check
	@$(PYTHON) -m pytest -m slow $(TESTS)

demo: $(STAMP)  ## run the example orders through the whole system and show what became of them
	@$(PYTHON) -m local_stack.demo

bench: $(STAMP)  ## measure throughput and latency beside pgbench, on a stack of its own
	@$(PYTHON) -m bench run $(if $(BASELINE),--baseline "$(BASELINE)") $(BENCH_OPTIONS)

bench-stock: $(STAMP)  ## measure stock's strategies side by side, and say what to choose when
	@$(PYTHON) -m bench stock $(BENCH_OPTIONS)

bench-coupon: $(STAMP)  ## measure the kinds of campaign side by side, and say what each is for
	@$(PYTHON) -m bench coupon $(BENCH_OPTIONS)

bench-bottlenecks: $(STAMP)  ## put settings of before beside those of now, under load
	@$(PYTHON) -m bench bottlenecks $(BENCH_OPTIONS)

load: $(STAMP)  ## put the storefront under load by k6, on a stack of its own
	@$(PYTHON) -m bench load $(LOAD) $(LOAD_OPTIONS)

format: $(STAMP)  ## bring all code into form
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

lock: $(STAMP)  ## resolve requirements.in into requirements.lock anew
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url requirements.in -o requirements.lock

kafka-pin: $(STAMP)  ## pin the jars that deploy/local/pom.xml asks for
	@$(PYTHON) -m local_stack pin-kafka
