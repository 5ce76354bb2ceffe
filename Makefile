# Everything runs in .venv, which the first target makes; nothing else is needed but Python 3.11+ and make.
PYTHON ?= python3
PROCESSES ?= 3  # many tests wait: more than two even on two processors
BIN := .venv/bin
STAMP := .venv/.installed
AGAIN := $(BIN)/python -m tests.again --quiet --numprocesses=$(PROCESSES) --dist=loadgroup
LANE_OFF := PGACTOR_TEST_STATEMENT_LANE=off $(AGAIN)

.PHONY: demo test test-lane-off check format docs bench bench-gunicorn soak fuzz piccolo-tests schema compatibility clean

demo: $(STAMP)          ## a database, a supervisor and 16 worker processes, for real
	$(BIN)/pgactor demo

test: $(STAMP)          ## every test, and most of what has a lane without the statement lane, too; what fails runs again, alone
	$(BIN)/pytest --quiet --numprocesses=$(PROCESSES) tests/core -m "not long" \
		--cov=pgactor/core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100
	$(BIN)/pytest --quiet --numprocesses=$(PROCESSES) tests/core -m long
	$(AGAIN) tests --ignore=tests/core
	$(LANE_OFF) tests/integration -m "not either_lane"

test-lane-off: $(STAMP) ## every test, each supervisor without the statement lane, if the test does not choose it
	$(LANE_OFF) tests

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
