# Everything a stranger needs: `make demo` and `make test` work on a fresh machine with Python 3.11 to 3.13.
.DEFAULT_GOAL := help
.PHONY: help setup demo check test learn slow smoke bench results

BIN := .venv/bin
STAMP := .venv/.installed
# The first of these that really runs, is in range and can make an environment (a pyenv shim may exist and fail).
PYTHONS ?= python3.13 python3.12 python3.11 python3 python
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install omrl with its development tools

$(STAMP): pyproject.toml
	@if ! $(BIN)/python -c '$(USABLE)' 2>/dev/null; then \
		found=; \
		for candidate in $(PYTHONS); do \
			if $$candidate -c '$(USABLE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo 'error: no Python 3.11 to 3.13 with venv and ensurepip among: $(PYTHONS)' >&2; \
			echo 'hint: install one (Debian: apt install python3-venv), or make setup PYTHONS=/path/to/python3.12' >&2; \
			exit 1; \
		fi; \
		echo "making .venv with $$($$found --version)"; \
		$$found -m venv --clear .venv; \
	fi
	@echo 'installing omrl and its tools into .venv (some minutes the first time)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## tiMe on the point family, one seed: trains the whole chain, prints the table and the report's path
	$(BIN)/omrl run time-point --preset small --seed 0

check: $(STAMP) ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Most of the tests' time goes to compiling programs that run once, so these are compiled the short way (a quarter of the
# time), if this jaxlib knows how; those of `learn` and `slow` have them as users do.
SHORT := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
test: $(STAMP) ## the tests, without the slow ones
	XLA_FLAGS="$$XLA_FLAGS $$(XLA_FLAGS='$(SHORT)' $(BIN)/python -c 'import jax; jax.devices()' >/dev/null 2>&1 && echo '$(SHORT)')" \
		$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not optimised"

learn: $(STAMP) ## the tests that learn, or compare bits that only optimised programs agree in
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "optimised and not slow"

slow: $(STAMP) ## the slow tests: kills at many times, learning with all controls
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

smoke: $(STAMP) ## every stage once, tiny, in a store that is thrown away
	@store=$$(mktemp -d) && trap 'rm -rf "$$store"' EXIT && $(BIN)/omrl run time-point --preset tiny --store "$$store"

bench: $(STAMP) ## updates per second on this machine, beside peers (installed the first time); scaling with tasks
	$(BIN)/python -m benchmarks.bench
	$(BIN)/python -m benchmarks.learners
	$(BIN)/python -m benchmarks.adapting
	$(BIN)/python -m benchmarks.scaling

results: $(STAMP) ## the README's tables with all their seeds (an hour or two; resumable)
	$(BIN)/python -m benchmarks.results
