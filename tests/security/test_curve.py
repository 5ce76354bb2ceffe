"""Keys on tcp: real supervisors, real clients, and clients that are none."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from pgactor import (
    AsyncClient,
    Client,
    ClientError,
    ConfigError,
    LeaseLost,
    NotPermitted,
    OutcomeUnknown,
    PoolError,
    SupervisorUnavailable,
    create_pool,
)
from pgactor import keys as keyfiles
from pgactor.actors.supervisor import _gateway
from pgactor.client import operator
from pgactor.config import Settings
from pgactor.config.curve import CurveSettings
from tests.endtoend.processes import Worker
from tests.endtoend.test_supervisor import must_refuse, serve
from tests.security.conftest import KeyFiles, keygen
from tests.supervising import SupervisorProcess, free_port, until

SOON = 10.0

Serving = Callable[..., SupervisorProcess]


def test_every_kind_of_client_works_with_keys(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    with Client(supervisor.tcp, **keys.options(key)) as client:
        assert client.fetchval("select 1") == 1
        with client.transaction() as lease:
            assert lease.fetchval("select 2") == 2
        assert [worker.label[:5] for worker in client.status().workers] == ["app: "]

    async def work() -> None:
        async with AsyncClient(supervisor.tcp, **keys.options(key)) as pool:
            assert await pool.fetchval("select 3") == 3
        async with create_pool(supervisor.tcp, **keys.options(key)) as drop_in:
            assert await drop_in.fetchval("select 4") == 4

    asyncio.run(work())
    with Client(supervisor.ipc) as client:  # ipc needs none
        assert client.fetchval("select 5") == 5


def test_keys_may_come_from_the_environment_as_paths_or_as_texts(
    keys: KeyFiles, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.client("app")
    supervisor = serving()
    monkeypatch.setenv("PGACTOR_SERVER_KEY", str(keys.server))
    monkeypatch.setenv("PGACTOR_KEY", str(key))
    with Client(supervisor.tcp) as client:
        assert client.fetchval("select 1") == 1
    monkeypatch.setenv("PGACTOR_SERVER_KEY", keyfiles.public_keys(str(keys.server))[0])
    monkeypatch.setenv("PGACTOR_KEY", keyfiles.secret_key(str(key)))
    with Client(supervisor.tcp) as client:
        assert client.fetchval("select 1") == 1


def test_no_key_a_strangers_key_and_anothers_server_key_are_refused_with_the_reason(
    keys: KeyFiles, serving: Serving
) -> None:
    key = keys.client("app")
    keygen("client", "stranger", "--directory", str(keys.folder))
    keygen("server", "--directory", str(keys.folder / "other"))
    supervisor = serving()
    server = str(keys.server)
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "only one side uses keys|are its keys asked for"),
        ({"server_key": server, "key": str(keys.folder / "stranger.key")}, "does not accept this client's key"),
        ({"server_key": str(keys.folder / "other" / "server.pub"), "key": str(key)}, "is server_key its own"),
    )
    for options, words in wrong:
        with (
            Client(supervisor.tcp, connect_timeout=1.0, **options) as client,
            pytest.raises(SupervisorUnavailable, match=words),
        ):
            client.fetchval("select 1")
    with pytest.raises(ClientError, match="expected together"):
        Client(supervisor.tcp, key=str(key))
    with pytest.raises(ConfigError, match="path of a file"):
        Client(supervisor.tcp, server_key="no key", key=str(key))


def test_a_client_with_keys_does_not_speak_to_a_supervisor_without(
    keys: KeyFiles, start_supervisor: Callable[..., SupervisorProcess]
) -> None:
    supervisor = start_supervisor()
    with (
        Client(supervisor.tcp, connect_timeout=0.3, **keys.options(keys.client("app"))) as client,
        pytest.raises(SupervisorUnavailable),
    ):
        client.fetchval("select 1")


def test_a_new_key_is_let_in_and_a_removed_ones_links_end_without_a_restart(keys: KeyFiles, serving: Serving) -> None:
    old = keys.client("old")
    supervisor = serving(max_size=1, min_size=1)
    leaving = Client(supervisor.tcp, **keys.options(old))
    with Client(supervisor.tcp, **keys.options(keys.client("new"))) as staying:
        assert staying.fetchval("select 1") == 1
        lease = leaving.acquire()
        lease.execute("create temporary table mine (id int)")
        (keys.permits / "old.toml").unlink()
        assert staying.fetchval("select 2", timeout=20) == 2  # the lease's backend is free again
        with pytest.raises((LeaseLost, OutcomeUnknown), match="the permit of the key 'old' was changed or removed"):
            lease.execute("select 1")
        until(lambda: not any("old" in worker.label for worker in staying.status().workers))
        leaving.close()
        with (
            Client(supervisor.tcp, connect_timeout=0.3, **keys.options(old)) as again,
            pytest.raises(SupervisorUnavailable, match="does not accept this client's key"),
        ):
            again.fetchval("select 1")


def test_a_removed_keys_connection_is_shut_down_even_if_it_says_nothing(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    dealer, monitor = by_hand(supervisor, keys, key)
    dealer.send(msgspec.msgpack.encode([["hello", 1, "by hand", 0, ""]]))
    assert msgspec.msgpack.decode(dealer.recv())[0][0] == "welcome"
    (keys.permits / "app.toml").unlink()
    answer = msgspec.msgpack.decode(dealer.recv())
    while not answer:
        answer = msgspec.msgpack.decode(dealer.recv())
    assert answer[0][:3] == ["failed", None, "not_permitted"]
    assert monitor.poll(10_000), "the connection stays"
    monitor.close()
    dealer.context.destroy(0)


def test_a_permit_that_changes_counts_for_a_new_link(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving(pool={"workers_may_administer": True})
    with Client(supervisor.tcp, **keys.options(key)) as client:
        with pytest.raises(NotPermitted, match="the key 'app' may not administer the pool; may_administer = true"):
            client.resize(2)
        with pytest.raises(NotPermitted, match="may not administer"):
            client.expire_connections()
        permit = keys.permits / "app.toml"
        permit.write_text(permit.read_text().replace("may_administer = false", "may_administer = true"))

        def resized() -> bool:
            with suppress(NotPermitted, OutcomeUnknown):
                client.resize(2)
                return True
            return False

        until(resized)
        client.expire_connections()
        assert client.status().max_size == 2


def test_a_key_joins_its_pools_only_and_hears_of_no_others(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app", "--pool", "reports")
    supervisor = serving(toml=keys.toml + "[pools.reports]\nmax_size = 1\n[pools.secret]\nmax_size = 1\n")
    with Client(supervisor.tcp, pool="reports", **keys.options(key)) as client:
        assert client.fetchval("select 1") == 1
        assert client.status().pools == ["reports"]
    for pool in ("default", "secret", "none"):
        with (
            Client(supervisor.tcp, pool=pool, **keys.options(key)) as client,
            pytest.raises(NotPermitted, match=f"'app' may not use the pool '{pool}', only: reports"),
        ):
            client.fetchval("select 1")


def test_an_administrators_key_operates_its_pools_only_and_hears_of_no_others(
    keys: KeyFiles, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.client("admin", "--pool", "reports", "--pool", "gone", "--may-administer")
    supervisor = serving(toml=keys.toml + "[pools.reports]\nmax_size = 1\n[pools.secret]\nmax_size = 1\n")
    monkeypatch.setenv("PGACTOR_SERVER_KEY", str(keys.server))
    monkeypatch.setenv("PGACTOR_KEY", str(key))
    endpoint = f"{supervisor.tcp}?pool=reports"
    operator.pause(endpoint, ["reports"], SOON, connect_timeout=SOON)
    operator.resume(endpoint, ["reports"], connect_timeout=SOON)
    for pools, error in (
        (["secret"], NotPermitted),
        (["none"], NotPermitted),
        (None, NotPermitted),
        (["gone"], PoolError),
    ):
        for ask in (operator.resume, operator.drain):
            with pytest.raises(error) as refused:
                ask(endpoint, pools, connect_timeout=SOON)
            assert "default" not in str(refused.value)
            assert pools == ["secret"] or "secret" not in str(refused.value)
    with pytest.raises(PoolError) as refused, Client(f"{supervisor.tcp}?pool=gone") as client:
        client.fetchval("select 1")
    assert "secret" not in str(refused.value)
    with Client(endpoint) as client:
        assert client.fetchval("select 1") == 1


def test_both_of_the_supervisors_keys_are_accepted_while_it_changes(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    both = f"{keyfiles.public_keys(str(keys.server))[0]},{keys.folder / 'next' / 'server.pub'}"
    keygen("server", "--directory", str(keys.folder / "next"))
    with Client(supervisor.tcp, server_key=both, key=str(key)) as client:
        assert client.fetchval("select 1") == 1
        supervisor.stop()
        (keys.folder / "next" / "server.key").replace(keys.folder / "server.key")
        supervisor.start()

        def served() -> bool:
            with suppress(OutcomeUnknown):
                return bool(client.fetchval("select 2") == 2)
            return False

        until(served)


def test_outside_of_loopback_it_listens_with_keys(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    port = free_port()
    serving(endpoints=[f"tcp://0.0.0.0:{port}"])
    with Client(f"tcp://127.0.0.1:{port}", **keys.options(key)) as client:
        assert client.fetchval("select 1") == 1


def test_a_supervisor_does_not_start_with_half_of_the_keys_or_broken_ones(dsn: str, keys: KeyFiles) -> None:
    server, permits = str(keys.folder / "server.key"), str(keys.permits)
    must_refuse(serve("--dsn", dsn, "--server-key", server), "server_key and client_keys are expected together")
    keys.client("app")
    (keys.permits / "app.toml").write_text("public_key = 'short'")
    for given, words in (
        ((str(keys.server), permits), "it has no secret_key"),
        ((server, "/no/such"), "/no/such: No such file"),
        ((server, permits), "app.toml: public_key is expected to be a key of 40 characters"),
    ):
        with pytest.raises(ConfigError, match=words):
            _gateway("tcp://0.0.0.0:5000", Settings(curve=CurveSettings(*given)))


def test_many_who_knock_without_a_key_harm_nobody(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    port = int(supervisor.tcp.rpartition(":")[2])
    with Client(supervisor.tcp, **keys.options(key)) as client:
        client.fetchval("select 0")
        knocking = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(100)]
        words = (b"GET / HTTP/1.0\r\n\r\n", os.urandom(64), b"\xff" + bytes(8) + b"\x7f\x03", b"")
        for number, each in enumerate(knocking):
            each.sendall(words[number % 4])
        assert client.fetchval("select 1") == 1
        for each in knocking:
            each.close()
        assert client.fetchval("select 2") == 2


def test_an_identity_on_tcp_is_refused_since_it_could_be_anothers(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    dealer, monitor = by_hand(supervisor, keys, key, identity=b"me")
    dealer.send(msgspec.msgpack.encode([["hello", 1, "by hand", 0, ""]]))
    (failed,) = msgspec.msgpack.decode(dealer.recv())
    assert failed[:3] == ["failed", None, "protocol"]
    assert "no identity" in failed[3]
    assert monitor.poll(10_000), "the connection stays"
    monitor.close()
    dealer.context.destroy(0)


def test_a_worker_process_finds_its_keys_in_its_environment(keys: KeyFiles, serving: Serving) -> None:
    key = keys.client("app")
    supervisor = serving()
    source = f"""
        import os
        os.environ["PGACTOR_SERVER_KEY"], os.environ["PGACTOR_KEY"] = {str(keys.server)!r}, {str(key)!r}
        from pgactor import Client
        with Client() as client:
            def child():
                assert client.fetchval("select 2") == 2
                client.close()
            assert client.fetchval("select 1") == 1
            assert status_of(fork(child)) == 0
            say(repr(client) + repr(client._channel.options))
    """
    worker = Worker(source, supervisor.tcp)
    try:
        said = worker.hear()
        worker.must_end_well()
    finally:
        worker.end()
    assert str(key) not in said


def by_hand(supervisor: SupervisorProcess, keys: KeyFiles, key: Path, identity: bytes = b"") -> tuple[Any, Any]:
    """A stock DEALER with keys, and a monitor that tells when its connection ends."""
    context = zmq.Context()
    dealer: Any = context.socket(zmq.DEALER)
    dealer.rcvtimeo = 20_000
    dealer.reconnect_ivl = -1
    dealer.linger = 0
    if identity:
        dealer.identity = identity
    secret = keyfiles.secret_key(str(key))
    dealer.curve_serverkey = keyfiles.public_keys(str(keys.server))[0].encode()
    dealer.curve_publickey = keyfiles.public_of(secret).encode()
    dealer.curve_secretkey = secret.encode()
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.connect(supervisor.tcp)
    return dealer, monitor
