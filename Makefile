# Everything sets itself up: a virtual environment for each interpreter version, in this folder.
#   make demo                    the main job: three servers, a balancer, one session
#   make test                    lint, types and tests; PYTHON=python3.13 on another interpreter
#   make test-servers            the stores on every kind of server, and what befalls them: takes longer
#   make reliability             every fault on every store: the tables of docs/reliability.md
#   make lint | bench | clean

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
DEMO := --port 8000
WORKERS := 2
# Real servers of many kinds, killed, hung and failed over: minutes, and a machine with nothing else to do.
SERVERS := tests/benchmarks tests/consistency tests/kubernetes tests/load_balancers tests/reliability $(wildcard tests/stores/test_memcached*.py tests/stores/test_redis_*.py \
	tests/stores/test_sql_*.py tests/stores/test_replica.py \
	tests/stores/test_full.py tests/stores/test_repeated.py)
TESTS := $(addprefix --ignore=,$(SERVERS))
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: demo test test-servers lint bench reliability clean

demo: $(VENV)/.demo
	$(BIN)/sharedsession demo $(DEMO)

test: lint $(VENV)/.test
	@PYTHON=$(PYTHON) scripts/install-system-packages chromium curl
	$(PYTEST) $(TESTS)

test-servers: lint $(VENV)/.test
	@PYTHON=$(PYTHON) scripts/install-system-packages apache2 haproxy mariadb-server memcached nginx openssl pgbouncer postgresql redis-server
	$(PYTEST) $(SERVERS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	@set -e; for each in $(filter-out benchmarks/reliability.py,$(wildcard benchmarks/*.py)); do echo "$$each"; $(BIN)/python "$$each"; done

reliability: $(VENV)/.test
	@PYTHON=$(PYTHON) scripts/install-system-packages mariadb-server memcached postgresql redis-server
	$(BIN)/python benchmarks/reliability.py

clean:
	rm -rf .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@scripts/make-environment $(PYTHON) $(VENV)

# What is installed is noted by an empty file; a changed pyproject.toml installs again.
$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@
