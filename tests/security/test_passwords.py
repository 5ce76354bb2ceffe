"""Passwords and secret keys are nowhere to be seen."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from pgactor import Client, PoolTimeout
from pgactor.actors.destination import find
from pgactor.cli import cli
from pgactor.client.options import make_options
from pgactor.config.connect import ConnectSettings
from pgactor.config.loading import load
from pgactor.keys import new_pair
from pgactor.messages.pool import SetConnectArgs
from tests.supervising import StartSupervisor, SupervisorProcess, free_port, until

SECRET = "s3cr3t-p4ssw0rd"


def test_no_repr_of_settings_and_messages_shows_them() -> None:
    dsn = f"postgresql://app:{SECRET}@db/app"
    settings = load(
        None,
        environment={"PGACTOR_DSN": dsn, "PGACTOR_DSN_OTHER": dsn},
        overrides={("connect", "password"): SECRET, ("connect", "sslpassword"): SECRET},
    )
    assert SECRET not in repr(settings)
    assert SECRET not in repr([settings.connect, settings.pools])
    assert SECRET not in repr(find(ConnectSettings(dsn=dsn), environment={}))
    assert SECRET not in repr(SetConnectArgs(0, 0, None, dsn, {"password": SECRET}))
    public, secret = new_pair()
    options = make_options("tcp://127.0.0.1:1", 1.0, None, None, None, public, secret)
    assert secret not in repr(options)
    with Client("tcp://127.0.0.1:1", server_key=public, key=secret) as client:
        assert secret not in repr(client) + repr(client._channel.options)


@pytest.mark.parametrize("form", [("--dsn", "{}"), ("--dsn={}",)])
def test_a_password_in_the_command_line_does_not_stay_there(dsn: str, short_tmp: Path, form: tuple[str, ...]) -> None:
    supervisor = SupervisorProcess(folder=short_tmp, dsn=dsn, wait=False, forked=False)
    supervisor.stop()
    given = f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/app"
    supervisor.command = [*supervisor.command, *(each.format(given) for each in form)]
    supervisor.start()
    try:
        process = psutil.Process(supervisor.pid)
        assert SECRET not in " ".join(process.cmdline())
        assert process.environ()["PGACTOR_DSN"] == given
        assert SECRET not in supervisor.log.read_text()
    finally:
        assert supervisor.stop() == 0


def test_a_refused_password_is_in_no_error_log_or_status(start_supervisor: StartSupervisor) -> None:
    wrong = {"password": SECRET, "user": "no_such_user_of_pgactor", "timeout": 5}
    supervisor = start_supervisor(connect=wrong, pool={"database_grace_seconds": 0.2, "min_size": 1})
    with Client(supervisor.ipc) as client:
        with pytest.raises(Exception, match=r".") as caught:
            client.fetchval("select 1", timeout=5)
        state = json.dumps(msgspec.to_builtins(client.status()))
        with pytest.raises(Exception, match=r".") as changed:
            client.set_connect_args(f"postgresql://app:{SECRET}@db/app?sslmode=verify-full&sslrootcert=/no/such")
    until(lambda: "cannot connect" in supervisor.log.read_text())
    for text in (repr(caught.value), state, repr(changed.value), supervisor.log.read_text()):
        assert SECRET not in text


def test_a_password_in_a_statement_is_not_shown_to_others(start_supervisor: StartSupervisor) -> None:
    supervisor = start_supervisor(max_size=1)
    with Client(supervisor.ipc) as owner, Client(supervisor.ipc) as other, owner.acquire() as lease:
        other.status()  # it has its link
        for sql in (
            f"select 1 /* alter role app password '{SECRET}' */",
            f"select 1 /* PASSWORD E'{SECRET}' */",
            f"select 'host=db password={SECRET}'",
            f"select 1 as password where 'a' <> 'password = {SECRET}'",
        ):
            lease.execute(sql)
            with pytest.raises(PoolTimeout) as caught:
                other.fetchval("select 1", timeout=0.05)
            shown = [holder.statement for holder in other.status().holders]
            assert SECRET not in f"{caught.value} {caught.value.facts} {shown}"
            assert any(each.startswith("select") and "password ..." in each for each in shown)
        lease.execute("select password from (values (1)) as t (password)")
        assert "from (values (1))" in other.status().holders[0].statement


@pytest.mark.parametrize(
    "dsn", [f"postgresql://app:{SECRET}%zz@db/app", f"nonsense {SECRET}", f"mysql://a:{SECRET}@b"]
)
def test_a_dsn_that_cannot_be_read_is_not_quoted(dsn: str, short_tmp: Path) -> None:
    said = CliRunner().invoke(cli, ["serve", "--dsn", dsn, "--endpoint", f"ipc://{short_tmp}/1.sock"])
    assert said.exit_code != 0
    assert SECRET not in said.output + repr(said.exception)
