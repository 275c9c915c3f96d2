# Needs git, make, Python 3.11 or newer and coreutils. Everything is installed into .venv.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
.PHONY: help setup up test test-quick coverage test-browser test-node soak chaos bench bench-apply bench-sidecar fuzz check docs format generate lock clean

# The interpreter for .venv; if unset, the first that is 3.11 or newer.
PYTHON ?=
# More arguments: ARGS="--port 4001" for `make up`, T="-k paths" for `make test`.
ARGS ?=
T ?=
# Number of processes that run the tests; 0 runs them in pytest itself, for a debugger.
WORKERS ?= 3

help: ## List what make can do
	@echo 'Usage: make TARGET'
	@while IFS= read -r line; do \
		case "$$line" in \
		[a-z]*:*'## '*) printf '  %-15s%s\n' "$${line%%:*}" "$${line#*'## '}" ;; \
		esac; \
	done < Makefile

setup: ## Install everything into .venv (the other targets do it first)
	@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			exec "$$python" -I tools/install.py; \
		fi; \
	done; \
	echo '$(if $(PYTHON),PYTHON=$(PYTHON) is not,No python3 on PATH is) Python 3.11 or newer:' \
		'install Python 3.13, or name one with make PYTHON=/path/to/python3.13.' >&2; \
	exit 1

up: setup ## Run Thruway here: make up [ARGS="..."]
	@exec .venv/bin/python tools/foreground.py .venv/bin/thruway up $(ARGS)

test: setup ## Run the tests: make test [T="tests/extproc -k paths"]
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile $(T) $(ARGS)

# What needs Envoy, an API server, Helm, a browser or a network: all else is a unit test.
NOT_QUICK = browser chart cluster dataplane docs github node packaging

test-quick: setup ## Run the unit tests, in less than a minute: make test-quick [T=...]
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --quick \
		$(NOT_QUICK:%=--ignore=tests/%) $(T) $(ARGS)

coverage: setup ## Run the unit tests with branch coverage, and fail below pyproject.toml's floor
	@$(MAKE) test-quick ARGS='--cov --cov-report=term $(ARGS)'

test-browser: setup ## Call Thruway from pages in headless Chromium; needs Debian's chromium
	@.venv/bin/python -m pytest $(if $(filter tests/browser%,$(T)),,tests/browser) $(T) $(ARGS)

test-node: setup ## Run the chart on a real node; needs root and a few of Debian's packages
	@.venv/bin/python -m pytest --timeout 600 $(if $(filter tests/node%,$(T)),,tests/node) $(T) $(ARGS)

soak: setup ## Inject random faults for five minutes, then pause all calls for fifteen
	@THRUWAY_SOAK_SECONDS=300 THRUWAY_IDLE_SECONDS=60 \
		THRUWAY_PAUSE_SECONDS=$${THRUWAY_PAUSE_SECONDS:-900} .venv/bin/python -m pytest -s \
		tests/dataplane/test_soak.py tests/dataplane/test_memory.py tests/dataplane/test_pauses.py \
		$(T) $(ARGS)

chaos: setup ## Stop the operator and the API server for half a minute at a time, under load
	@THRUWAY_CHAOS_SECONDS=30 .venv/bin/python -m pytest tests/cluster/test_chaos.py $(T) $(ARGS)

bench: setup ## Compare a call through Thruway with a direct one and one through Envoy alone
	@.venv/bin/python bench/latency.py

bench-apply: setup ## Measure from apply to the first good request, with up to 5,000 routes
	@.venv/bin/python bench/apply.py

bench-sidecar: setup ## Measure the cost of a sidecar on a real node; needs the same as test-node
	@.venv/bin/python bench/sidecar.py

fuzz: setup ## Compare 20,000 generated requests through Thruway and directly
	@THRUWAY_FUZZ_EXAMPLES=$${THRUWAY_FUZZ_EXAMPLES:-20000} \
		.venv/bin/python -m pytest tests/dataplane/test_fidelity.py $(T) $(ARGS)

check: setup ## Check format, lint, types, layers, generated files, docs and the lock
	@.venv/bin/python tools/check.py

docs: setup ## Build the documentation site into site/
	@.venv/bin/python tools/docs.py

format: setup ## Format the code and fix what ruff can fix
	@.venv/bin/python -m ruff check --quiet --fix-only .
	@.venv/bin/python -m ruff format .

generate: setup ## Rewrite the generated files
	@.venv/bin/python tools/generated.py

COMPILE = .venv/bin/python -m uv pip compile --quiet --system-certs --universal \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	--python-version 3.11

lock: setup ## Write the lock files for pyproject.toml: make lock [ARGS=--upgrade]
	@$(COMPILE) --all-extras --group dev --group docs pyproject.toml -o requirements.lock $(ARGS)
	@$(COMPILE) --constraint requirements.lock --extra operator --extra extproc pyproject.toml -o image.lock $(ARGS)
	@$(COMPILE) --constraint requirements.lock --group image-build -o image-build.lock $(ARGS)
	@$(COMPILE) --group go -o tests/cluster/go.lock $(ARGS)

clean: ## Remove .venv, caches and build results
	rm -rf .venv .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist site
	@if [ -e .git ]; then git clean -fdqX -- '*__pycache__/*' '*.egg-info/*'; fi
