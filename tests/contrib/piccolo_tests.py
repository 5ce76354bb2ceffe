"""Piccolo's own tests, with pgactor's engine in the place of its own: `python -m tests.contrib.piccolo_tests PATH`

PATH: a checkout of Piccolo, of the version that is installed or near to it; nothing is fetched. What may follow are
arguments of pytest, such as tests/engine; otherwise all tests run that Piccolo has for PostgreSQL. `--own-engine`
runs them with Piccolo's engine, to compare. The database is the one that the other tests take; a database
named piccolo is dropped and made there.

It ends with 0 if no test fails but those of `FAILING` and `OF_ANOTHER_TABLE`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import asyncpg

from tests.supervising import SupervisorProcess, container_postgres

OF_ANOTHER_TABLE = "tests.columns.", "DatatypeMismatchError"
"""Which tests may fail, with which error: up to three of those whose tables have one name and columns of other
types, so that their statements are the same text. The parameter that PostgreSQL has prepared is then of the old type.
asyncpg has the same error on a connection that is kept, as in a pool; Piccolo's tests have a new one for each
statement. Which of them it is depends on the connections that the statements meet. `--without-cache` keeps none
prepared."""

FAILING: dict[str, str] = {
    "tests.apps.sql_shell.commands.test_run.TestRun::test_psql": (
        "It looks for the user and the host in the engine's config, to give them to psql. They are the supervisor's."
    ),
    "tests.apps.migrations.auto.integration.test_migrations.TestMigrations::test_array_base_column_change": (
        "With Piccolo 1.38 and the tests of 1.36: it fails with Piccolo's own engine, too."
    ),
}
"""Tests that cannot pass with the other engine, and why. docs/piccolo.md has the same list."""

CONFIGURATION = """
import piccolo.engine.postgres
from piccolo.conf.apps import AppRegistry

{engine}
APP_REGISTRY = AppRegistry(apps=["tests.example_apps.music.piccolo_app", "tests.example_apps.mega.piccolo_app"])
"""
"""Piccolo's configuration. It is a plugin of pytest, too, so that it comes before any test has imported an engine."""

DATABASE = "piccolo"
"""Its tests expect this name."""

OURS = """
from pgactor.contrib.piccolo import PgactorEngine

piccolo.engine.postgres.PostgresEngine = piccolo.engine.PostgresEngine = PgactorEngine
DB = PgactorEngine(config={{"endpoint": {endpoint!r}}})
"""

THEIRS = """
DB = piccolo.engine.postgres.PostgresEngine(config={{"dsn": {dsn!r}, "database": {database!r}}})
"""


def main(arguments: list[str] | None = None) -> int:
    """Run them. The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.contrib.piccolo_tests", description=__doc__)
    parser.add_argument("path", type=Path, help="a checkout of Piccolo")
    parser.add_argument("--own-engine", action="store_true", help="with Piccolo's own engine")
    parser.add_argument("--without-cache", action="store_true", help="prepare no statement for later")
    given, chosen = parser.parse_known_args(arguments)
    if not (given.path / "tests" / "conftest.py").exists():
        parser.error(f"{given.path} is no checkout of Piccolo: it has no tests/conftest.py")
    with ExitStack() as stack:
        dsn = os.environ.get("PGACTOR_TEST_DSN") or stack.enter_context(container_postgres())
        if dsn is None:
            from pgactor.actors.embedded import embedded_postgres

            dsn = stack.enter_context(embedded_postgres())
        asyncio.run(make_database(dsn))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pga-")))
        if given.own_engine:
            engine = THEIRS.format(dsn=dsn, database=DATABASE)
        else:
            connect = {"database": DATABASE, "statement_cache_size": 0 if given.without_cache else 1000}
            supervisor = SupervisorProcess(folder=folder, dsn=dsn, connect=connect, max_size=4)
            stack.callback(supervisor.stop)
            engine = OURS.format(endpoint=supervisor.ipc)
        failed = run(given.path, folder, engine, chosen)
    if given.own_engine or failed is None:
        return failed is None or bool(failed)
    ran_all = not chosen
    new, gone = sorted(failed - set(FAILING)), sorted(set(FAILING) - failed) if ran_all else []
    for name in new:
        print(f"fails, and is expected to pass: {name}")
    for name in gone:
        print(f"does not fail, as was expected: {name}")
    return bool(new)


async def make_database(dsn: str) -> None:
    """Make it anew."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"drop database if exists {DATABASE}")
    await connection.execute(f"create database {DATABASE}")
    await connection.close()


def run(checkout: Path, folder: Path, engine: str, chosen: list[str]) -> set[str] | None:
    """The tests that failed, as "tests.module.Class::name", but for those that may; None if pytest itself did."""
    (folder / "pgactor_piccolo_conf.py").write_text(CONFIGURATION.format(engine=engine))
    report = folder / "report.xml"
    paths = [str(folder), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PICCOLO_CONF": "pgactor_piccolo_conf", "PYTHONPATH": os.pathsep.join(paths)}
    options = ["-q", "-p", "pgactor_piccolo_conf", "-p", "no:cacheprovider", f"--junitxml={report}"]
    marked = ["-m", "not integration", *(chosen or ["tests"])]
    status = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *marked], cwd=checkout, env=environment, check=False
    ).returncode
    if status not in (0, 1):
        return None
    cases = ElementTree.parse(report).iter("testcase")
    return {
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if any(each.tag in ("failure", "error") and not _may_fail(case, each) for each in case)
    }


def _may_fail(case: Element, failure: Element) -> bool:
    package, error = OF_ANOTHER_TABLE
    return case.get("classname", "").startswith(package) and error in failure.get("message", "")


if __name__ == "__main__":
    sys.exit(main())
