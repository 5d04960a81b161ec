# Everything sets itself up: a virtual environment for each interpreter version, in this folder.
#   make demo                    the main job: three servers, a balancer, one session
#   make test                    lint, types, the library with its stores, in about two minutes; PYTHON=python3.13 on another interpreter
#   make test-all                all there are: make coverage (those of make test), make test-more, make test-servers
#   make test-floors             the lowest versions of libraries that are allowed; on Python 3.11
#   make reliability             every fault on every store: the tables of docs/reliability.md
#   make bench                   what sessions cost, beside others': docs/benchmarks.md; BENCH=--quick for less
#   make lint | clean

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
DEMO := --port 8000
WORKERS := 2
# The tiers are markers, set by tests/conftest.py: servers, slow, again.
QUICK := not servers and not slow and not again
MORE := not servers and (slow or again)
# Applications that want other versions than the tests have: each group on an environment of its own.
OTHERS := applications flask22
OTHER_VENVS := $(OTHERS:%=$(VENV)-%)
# Where libraries differ from version to version: the frameworks, and each client on its server.
FLOORS := tests/wsgi tests/flask tests/fastapi tests/litestar tests/django tests/adopt tests/asgi/test_drop_in.py tests/stores/test_urls.py tests/stores/test_conformance.py \
	tests/stores/test_redis.py tests/stores/test_redis_kinds.py tests/stores/test_redis_rights.py tests/stores/test_redis_sentinel.py \
	tests/stores/test_sql_conformance.py tests/stores/test_sql_tls.py tests/stores/test_memcached_conformance.py
FLOORED := .venv-floors
FLOORED_QUART := .venv-floors-quart
BENCHED := .venv-bench
TESTS := tests
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS)

# What Python has compiled serves the next process, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all tiers test-more test-servers test-floors coverage lint bench reliability clean

demo: $(VENV)/.demo
	$(BIN)/sharedsession demo $(DEMO)

test: lint $(VENV)/.test
	$(PYTEST) --dist worksteal -m '$(QUICK)' $(TESTS)

test-all: tiers coverage test-more test-servers

# Each test belongs to one tier: asked first, for it takes half a minute.
tiers: $(VENV)/.test
	$(BIN)/python scripts/count-tests '$(QUICK)' '$(MORE)' servers

# The same, measured: with less than pyproject.toml wants it fails.
coverage: lint $(VENV)/.test
	$(PYTEST) --dist worksteal -m '$(QUICK)' --cov=sharedsession $(TESTS)

test-more: lint $(VENV)/.test
	@PYTHON=$(PYTHON) scripts/install-system-packages chromium curl redis-server
	$(PYTEST) --dist worksteal -m '$(MORE)' $(TESTS)

# What kills and hangs a server has that file's server to itself.
test-servers: lint $(VENV)/.test $(OTHER_VENVS:%=%/.installed)
	@PYTHON=$(PYTHON) scripts/install-system-packages apache2 haproxy mariadb-server memcached nginx openssl pgbouncer postgresql redis-server
	$(PYTEST) --dist loadfile -m servers $(TESTS)

# Old libraries warn of what they themselves do.
test-floors: $(FLOORED)/.floors $(FLOORED_QUART)/.floors
	@PYTHON=$(PYTHON) scripts/install-system-packages mariadb-server memcached postgresql redis-server
	$(FLOORED)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile -o filterwarnings=ignore -m 'not newest' \
		--ignore tests/django/test_servers.py --ignore tests/flask/test_sockets.py --ignore tests/fastapi/test_openapi.py --ignore tests/fastapi/test_types.py $(FLOORS)
	$(FLOORED_QUART)/bin/python -m pytest --numprocesses $(WORKERS) -o filterwarnings=ignore tests/quart

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCHED)/.bench
	@PYTHON=$(PYTHON) scripts/install-system-packages memcached postgresql redis-server wrk
	$(BENCHED)/bin/python -m benchmarks.bench $(BENCH)

reliability: $(VENV)/.test
	@PYTHON=$(PYTHON) scripts/install-system-packages mariadb-server memcached postgresql redis-server
	$(BIN)/python benchmarks/reliability.py

clean:
	rm -rf .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
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

$(OTHER_VENVS:%=%/bin/python):
	@scripts/make-environment $(PYTHON) $(@:/bin/python=)

$(OTHER_VENVS:%=%/.installed): %/.installed: %/bin/python pyproject.toml
	$*/bin/python -m pip install --quiet --editable '.[flask,redis,sql]' --group $(*:$(VENV)-%=%)
	@touch $@

$(FLOORED)/.floors: pyproject.toml scripts/lowest-versions
	@scripts/make-environment $(PYTHON) $(FLOORED)
	@$(FLOORED)/bin/python scripts/lowest-versions >$(FLOORED)/lowest.txt
	$(FLOORED)/bin/python -m pip install --quiet --constraint $(FLOORED)/lowest.txt \
		--editable '.[redis,memcached,sql,postgresql,mysql,flask,starlette,django,fastapi,litestar]' --group floors
	@touch $@

$(FLOORED_QUART)/.floors: pyproject.toml
	@scripts/make-environment $(PYTHON) $(FLOORED_QUART)
	$(FLOORED_QUART)/bin/python -m pip install --quiet --editable '.[quart]' --group quart019
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

# With the packages that are compared, and nothing that the tests have.
$(BENCHED)/.bench: pyproject.toml
	@scripts/make-environment $(PYTHON) $(BENCHED)
	$(BENCHED)/bin/python -m pip install --quiet --editable '.[flask,memcached,postgresql,redis,starlette]' --group bench
	@touch $@
