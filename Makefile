# Needs only make and a Python >= 3.11; everything else comes pinned by hash into .venv.
# Another Python: make PYTHON=/path/to/python3

PYTHON     ?= python3.13 python3.12 python3.11 python3
BIN        := .venv/bin
INSTALLED  := .venv/.installed
TEST_DIRS  := $(wildcard tests/unit tests/pipeline tests/envoy tests/abuse)
PEER       := litellm[proxy]==1.108.7
AT_ONCE    := --numprocesses 2 --dist worksteal # most of the tests wait most of the time
TYPED      := $(wildcard ext_authz tests bench fuzz protos/compile.py)

SHELL             := bash
.SHELLFLAGS       := -eu -o pipefail -c
.DEFAULT_GOAL     := help
.DELETE_ON_ERROR:
MAKEFLAGS         += --no-print-directory

export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT     ?= 180

.PHONY: help demo test test-real abuse fuzz lint types walls protos bench bench-peers lock audit-deps sbom clean

help: ## print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target what; do printf '%-18s %s\n' "$$target" "$$what"; done

demo: $(INSTALLED) ## the whole flow on this machine: identity provider, MCP servers, a real Envoy
	@$(BIN)/mcp-ext-authz demo

test: $(INSTALLED) ## unit, pipeline, envoy and abuse suites; a skipped test is a failure
	@test -n "$(TEST_DIRS)" || { echo "make test: no suite under tests/" >&2; exit 1; }
	@$(BIN)/python -m pytest $(TEST_DIRS) $(AT_ONCE) --junitxml=.venv/tests.xml
	@! grep -q 'type="pytest.skip"' .venv/tests.xml || { echo "make test: a test was skipped" >&2; exit 1; }

test-real: $(INSTALLED) ## against programs we did not write; TOLERATE_MISSING=1 passes without them
	@docker info >/dev/null 2>&1 || { echo "make test-real: not run: no Docker engine answers" >&2; \
		[ "$${TOLERATE_MISSING:-}" = 1 ]; exit; }; \
	$(BIN)/python -m pytest tests/real

abuse: $(INSTALLED) ## the abuse suite alone, each attack by its id
	@$(BIN)/python -m pytest tests/abuse --verbose

fuzz: $(INSTALLED) ## hunt for inputs that break a reader; SECONDS=600 for all of them together
	@$(BIN)/python -m fuzz $(or $(SECONDS),60)

lint: $(INSTALLED) ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy $(TYPED)

walls: $(INSTALLED) ## import-linter: which room may import which
	@$(BIN)/lint-imports --no-cache --no-logo

protos: $(INSTALLED) ## compile protos/ into ext_authz/_protos
	@$(BIN)/python protos/compile.py

bench: $(INSTALLED) ## measure, in under ten minutes; ONLY="hot envoy" runs these parts
	@test -d bench || { echo "make bench: no bench/ here" >&2; exit 1; }
	@$(BIN)/python -m bench $(ONLY)

bench-peers: $(INSTALLED) ## measure LiteLLM's MCP gateway on the same calls, from a venv of its own
	@test -x .venv-peers/bin/litellm || { $(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-peers && \
		$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r requirements/peers.txt; }
	@$(BIN)/python -m bench.peers

lock: $(INSTALLED) ## resolve requirements/ anew, moving as little as possible; UPGRADE=1 moves all
	@$(call COMPILE,dev) $(if $(UPGRADE),--upgrade) --all-extras --group dev pyproject.toml
	@$(call COMPILE,runtime) --constraint requirements/dev.txt --extra uvloop --extra otlp --extra valkey pyproject.toml
	@$(call COMPILE,uv) --constraint requirements/dev.txt --group installer
	@$(call COMPILE,build) --constraint requirements/dev.txt --group build
	@echo '$(PEER)' | $(call COMPILE,peers) $(if $(UPGRADE),--upgrade) -

audit-deps: $(INSTALLED) ## known vulnerabilities in what the lock names
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements/dev.txt

sbom: $(INSTALLED) ## CycloneDX bill of materials of the runtime lock, into dist/sbom.json
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
		--output-file dist/sbom.json requirements/runtime.txt

clean: ## remove .venv, caches and build products
	@rm -rf .venv .venv-peers build dist .coverage htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' --output-file requirements/$(1).txt

$(INSTALLED): pyproject.toml requirements/dev.txt requirements/uv.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(FIND_PYTHON); "$$found" -m venv --clear .venv; }
	@echo "installing into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

define FIND_PYTHON
found=; bare=; \
for python in $(PYTHON); do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null && { found=$$python; break; } || bare=$$python; \
done; \
if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	echo "$$bare has no ensurepip to make .venv with: on Debian, apt-get install python3-venv" >&2; exit 1; \
elif [ -z "$$found" ]; then \
	echo "no Python >= 3.11 with venv among: $(PYTHON); name one with make PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef
