# Everything runs in .venv, which the first target makes; nothing else is needed but Python 3.11+ and make.
PYTHON ?= python3
PROCESSES ?= 3  # many tests wait: more than two even on two processors
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/pytest --quiet --numprocesses=$(PROCESSES) --dist=loadgroup
CHOOSE_THEIR_LANE := test_hazards.py test_hazards_in_flight.py test_hazards_values.py test_session_effects.py \
	test_types_looked_up.py test_lost_names.py
HAVE_NO_LANE := test_copy.py test_listen.py test_named_pools.py test_hooks.py test_sync_connection.py

.PHONY: demo test check format docs bench bench-gunicorn soak fuzz piccolo-tests schema compatibility clean

demo: $(STAMP)          ## a database, a supervisor and 16 worker processes, for real
	$(BIN)/pgactor demo

test: $(STAMP)          ## every test, with the statement lane and without; core/ covered to the last branch by its own
	$(PYTEST) tests/core --cov=pgactor/core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100
	$(PYTEST) tests --ignore=tests/core
	PGACTOR_TEST_STATEMENT_LANE=off $(PYTEST) tests/integration \
		$(addprefix --ignore=tests/integration/,$(CHOOSE_THEIR_LANE) $(HAVE_NO_LANE))

check: $(STAMP)         ## lint, format, types, and the generated schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m protocols.generate --check
	$(BIN)/python -m tests.compatibility.report --check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)          ## the site, in site/: no network is needed, and a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

compatibility: $(STAMP) ## writes docs/compatibility.md from the names of its tests
	$(BIN)/python -m tests.compatibility.report

schema: $(STAMP)        ## writes protocols/schema from pgactor/messages
	$(BIN)/python -m protocols.generate

bench: $(STAMP) .venv/.bench    ## peers side by side, in one run: make bench ARGS="--scenario a --pgbouncer PATH"
	$(BIN)/python -m benchmarks $(ARGS)

bench-gunicorn: $(STAMP) .venv/.bench   ## 16 sync workers: pgactor with 8 connections, psycopg_pool with 32
	$(BIN)/python -m benchmarks.gunicorn $(ARGS)

soak: $(STAMP)          ## ten minutes of chaos, in which every row and every write is judged
	$(BIN)/python -m benchmarks.soak --minutes 10 $(ARGS)

fuzz: $(STAMP)          ## anything at every door, other things each time: make fuzz SECONDS=3600
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),300) $(ARGS)

piccolo-tests: $(STAMP) ## Piccolo's own tests with pgactor's engine: make piccolo-tests PICCOLO=/path/to/piccolo
	$(BIN)/python -m tests.contrib.piccolo_tests $(PICCOLO) $(ARGS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	touch $@

.venv/.bench: pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,bench]'
	touch $@
