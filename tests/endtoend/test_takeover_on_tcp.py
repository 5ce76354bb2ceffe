"""One supervisor takes over from another one on tcp, with keys: at once, while leases of the old one last."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pgactor import Client
from tests.endtoend.takeovers import SOON, Ending, take_over, taken_over_twice_under_load
from tests.security.conftest import KeyFiles, keygen, keys, serving
from tests.supervising import SupervisorProcess, until

__all__ = ["keys", "serving"]

Serving = Callable[..., SupervisorProcess]


@pytest.fixture
def given(keys: KeyFiles) -> dict[str, Any]:
    """What a client is made with; it needs no time beyond its own to find the new supervisor."""
    return {**keys.options(keys.client("app")), "connect_timeout": 5.0}


async def test_not_one_request_fails_while_supervisors_change_twice_under_load_and_leases_last(
    serving: Serving, ending: Ending, given: dict[str, Any], dsn: str, table: str
) -> None:
    name = f"takeover_tcp_{os.getpid()}"
    old = serving(max_size=4, min_size=4, connect={"server_settings": {"application_name": name}})
    await taken_over_twice_under_load(old, old.tcp, given, ending=ending, dsn=dsn, name=name, table=table)


def test_the_new_one_may_have_another_key(
    serving: Serving, ending: Ending, keys: KeyFiles, given: dict[str, Any]
) -> None:
    keygen("server", "--directory", str(keys.folder / "next"))
    given["server_key"] += f",{keys.folder}/next/server.pub"
    old = serving(max_size=2)
    with Client(old.tcp, **given) as client, Client(old.tcp, **given) as other:
        lease = client.acquire()
        (keys.folder / "next" / "server.key").replace(keys.folder / "server.key")
        new = ending(take_over(old))
        assert other.fetchval("select 1") == client.fetchval("select 1") == 1
        assert lease.fetchval("select 2") == 2
        new.process.send_signal(signal.SIGHUP)
        until(lambda: "until the supervisor before this one has ended" in new.log.read_text())
        lease.release()
        assert old.process.wait(SOON) == 0
        assert client.fetchval("select 3") == other.fetchval("select 3") == 3


def reloaded(supervisor: SupervisorProcess, times: int) -> bool:
    return supervisor.log.read_text().count("reloaded: curve.server_key") == times


def test_the_old_one_is_dialed_again_if_the_new_one_dies_whatever_keys_it_had_before(
    serving: Serving, keys: KeyFiles, given: dict[str, Any]
) -> None:
    old = serving(max_size=2)
    for count, name in enumerate(("next", "third"), 1):
        keygen("server", "--directory", str(keys.folder / name))
        (keys.folder / name / "server.key").replace(keys.folder / "server.key")
        old.process.send_signal(signal.SIGHUP)
        until(partial(reloaded, old, count))
    given["server_key"] = str(keys.folder / "third" / "server.pub")
    with Client(old.tcp, **given) as client:
        lease = client.acquire()
        new = take_over(old)
        with Client(old.tcp, **given) as other:
            assert other.fetchval("select 1") == 1
        new.process.kill()
        new.process.wait()
        until(lambda: "this one goes on" in old.log.read_text())
        for _ in range(10):
            with Client(old.tcp, **{**given, "connect_timeout": 0.0}) as other:
                assert other.fetchval("select 2", timeout=20) == 2
        assert lease.fetchval("select 3") == 3
        lease.release()


def test_who_comes_while_the_old_one_keeps_a_lease_is_served_by_the_new_one_at_once(
    serving: Serving, ending: Ending, given: dict[str, Any]
) -> None:
    old = serving(max_size=2)
    with Client(old.tcp, **given) as client:
        lease = client.acquire()
        ending(take_over(old))
        for number in range(10):
            with Client(old.tcp, **given) as other:
                assert other.fetchval("select $1::int", number) == number
        assert lease.fetchval("select 1") == 1
        lease.release()
        assert old.process.wait(SOON) == 0
