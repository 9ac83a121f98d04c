# make serve   install into .venv and serve the built-in chat; ARGS go to `sockade serve`
# make test    everything that must hold: check, then the tests with their coverage
# make security  the numbered security cases, and a table of what was seen of each
# make bench   the same work on Sockade and on other servers, side by side; fetches those once, into .bench/
# make web     the page's script, built again after a change in web/; needs Node and npm's registry
#
# Only `install`, `web`, `bench` and the first `test` (for the browser and the SDK it drives) need a network.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHROMIUM := /usr/bin/chromium

# The first Python that is new enough; PYTHON=/path/to/python3 chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install serve test check tests web bench bench-docs faults mutants fuzz chromium compiler sdk format lock clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Sockade needs Python 3.11 or newer: install it, or name one with make PYTHON=/path/to/python3." >&2; \
		exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Sockade needs Python 3.11 or newer, and $(PYTHON) is older or missing." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || $(call debian,python3-venv,make virtual environments)
	@"$(BIN)/python" -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear "$(VENV)"
	@echo "Installing into $(VENV) ..."
	@# The lock is whole, so nothing is resolved: a release made after it must not get in the way.
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r requirements.lock
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@touch "$(STAMP)"

serve: $(STAMP)
	@"$(BIN)/sockade" serve $(ARGS)

test: check tests

check: $(STAMP)
	"$(BIN)/ruff" check
	"$(BIN)/ruff" format --check
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

# One after another: the tests of load and of deadlines need the machine for themselves.
tests: $(STAMP) chromium sdk compiler
	"$(BIN)/coverage" erase
	"$(BIN)/pytest" --cov --cov-report=term --cov-fail-under=90 $(ARGS)

# Builds the page's script from web/src and the SDK. The result is committed, so nothing else here needs Node.
web: $(STAMP)
	@command -v npm >/dev/null || { echo "make web needs Node 20 or newer with npm." >&2; exit 1; }
	cd web && npm ci && npm run --silent build
	"$(BIN)/pytest" -q tests/test_web.py

# The tests of the security cases alone, and the table of what each of them saw. FULL=1 runs the numbers of the cases,
# an hour of coming and going among them (CHURN_SECONDS=300 makes that five minutes); without it they are smaller.
security: $(STAMP) chromium
	"$(BIN)/pytest" -q --cases $(ARGS)

# CPU of each server for the same work over TLS, side by side. ARGS="--only echo --rounds 5"; --help tells all.
bench: $(STAMP) compiler
	@"$(BIN)/python" -m bench $(ARGS)

# The same, and its figures and plots into docs/performance.md.
bench-docs: bench
	@"$(BIN)/python" -m bench.page

# Kills the server a hundred times under load and counts what became of every publication.
faults: $(STAMP)
	"$(BIN)/python" -m tests.faults $(ARGS)

# Switches each guard off once and shows that a test then fails.
mutants: $(STAMP)
	"$(BIN)/python" -m tests.security.mutants $(ARGS)

# Mutated inputs for what strangers can reach: a hundred thousand for each fuzzer. ARGS="heads --seed 7 --count 1000000"
fuzz: $(STAMP)
	"$(BIN)/python" -m fuzz $(ARGS)

chromium:
	@test -x "$(CHROMIUM)" || $(call debian,chromium,test the page in a browser)

# The official JavaScript SDK, for the tests that drive it: what the lock file beside them names.
sdk: tests/sdk/node_modules/.package-lock.json

tests/sdk/node_modules/.package-lock.json: tests/sdk/package-lock.json
	@command -v npm >/dev/null || $(call debian,npm,test with the official SDK)
	@echo "Installing the JavaScript SDK into tests/sdk ..."
	@cd tests/sdk && npm ci --silent --no-audit --no-fund
	@touch "$@"

# The benchmark's driver and its floor are written in C.
compiler:
	@echo '#include <openssl/ssl.h>' | cc -E -xc - >/dev/null 2>&1 || $(call debian,gcc libc6-dev libssl-dev,compile the driver of the benchmark)

format: $(STAMP)
	"$(BIN)/ruff" check --fix
	"$(BIN)/ruff" format

# For every platform and Python from 3.11 on; with the build backend, so that nothing is fetched to build.
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv." >&2; exit 1; }
	printf 'hatchling\neditables\n' | uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet --output-file requirements.lock $(ARGS)

clean:
	rm -rf build dist test-artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.* coverage.xml

# $(call debian,PACKAGE,PURPOSE): install a Debian package where that is allowed, else say what to do.
define debian
{ if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	echo "Installing the Debian package $(1) ..."; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(1) >/dev/null; \
	else echo "To $(2), install $(1) (on Debian: sudo apt-get install $(1)), then try again." >&2; exit 1; fi; }
endef
