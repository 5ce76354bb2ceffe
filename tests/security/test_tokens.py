"""A lease's token on another link: over raw ZMTP, with whatever a thief may know."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest

from pgactor import Client
from pgactor.zmtp import Connection, encode_message
from tests.supervising import SupervisorProcess


class Thief:
    """A plain socket that speaks ZMTP and knows the token."""

    def __init__(self, supervisor: SupervisorProcess, *, identity: bytes = b"") -> None:
        self._zmtp = Connection("DEALER", max_message_bytes=1 << 20, identity=identity)
        self._messages: list[Any] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(supervisor.ipc.removeprefix("ipc://"))
        self._socket.sendall(self._zmtp.take_output())
        while not self._zmtp.ready:
            self._receive()
        self._send(["hello", 1, "thief", 0, ""])
        self.epoch = self.next()[2]
        self._ids = 0

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        assert data, "the link was closed"
        for (frame,) in self._zmtp.receive(data):
            self._messages += msgspec.msgpack.decode(frame)
        self._socket.sendall(self._zmtp.take_output())

    def _send(self, message: list[Any]) -> None:
        self._socket.sendall(encode_message(msgspec.msgpack.encode([message])))

    def next(self) -> list[Any]:
        """The next message."""
        while not self._messages:
            self._receive()
        message: list[Any] = self._messages.pop(0)
        return message

    def tell(self, *message: Any) -> None:
        """A notice."""
        self._send(list(message))

    def ask(self, tag: str, *fields: Any) -> list[Any]:
        """A request; returns its reply."""
        self._ids += 1
        self._send([tag, self._ids, self.epoch, 5.0, *fields])
        return self.next()

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("identity", [b"", b"owner"])
def test_a_stolen_token_is_useless(supervisor: SupervisorProcess, identity: bytes) -> None:
    with Client(supervisor.ipc, label="owner") as owner, owner.acquire() as lease:
        lease.execute("begin")
        lease.execute("create temporary table mine (id int)")
        token = [lease.token.epoch, lease.token.holder, lease.token.fence]
        thief = Thief(supervisor, identity=identity)
        try:
            requests: tuple[tuple[Any, ...], ...] = (
                ("execute", "insert into mine values (1)", [], token),
                ("fetch", "select * from mine", [], 0, token),
                ("executemany", "insert into mine values ($1)", [[1]], token),
                ("fetchmany", "insert into mine values ($1) returning id", [[1]], token),
                ("prepare", "select 1", token),
                ("describe", "select 1", token),
                ("open_cursor", "select 1", [], token),
                ("fetch_cursor", 1, 1, token),
                ("move_cursor", 1, 1, token),
                ("copy_out", "copy_from_query", "select 1", [], {}, 1000, token),
                ("copy_in", "copy_to_table", "mine", {}, token),
                ("listen", token, ["a"]),
                ("set_codec", "int4", "pg_catalog", token, "text"),
                ("reset", token),
            )
            for request in requests:
                reply = thief.ask(*request)
                assert reply[0] == "failed", request
                if reply[2] != "protocol":
                    assert reply[2] == "lease_lost", reply
                    assert "belongs to another worker" in reply[3]
            for notice in ("release", "close_statement", "close_cursor", "watch"):
                thief.tell(notice, token, *([1] if notice.startswith("close") else []))
            thief.tell("heartbeat", [token])
            thief.tell("cancel", 1)
            assert thief.ask("fetch", "select 7")[0] == "rows"
        finally:
            thief.close()
        assert lease.is_in_transaction()
        assert lease.fetchval("select count(*) from mine") == 0


def test_a_thief_does_not_keep_anothers_lease_alive(start_supervisor: Any) -> None:
    supervisor = start_supervisor(max_size=1)
    owner = Thief(supervisor)
    granted = owner.ask("acquire", 0.5)
    thief = Thief(supervisor)
    try:
        assert granted[0] == "granted"
        while True:  # it renews and renews, until the owner, who is silent, has lost it
            thief.tell("heartbeat", [granted[2]])
            if thief.ask("acquire")[0] == "granted":
                break
        assert owner.next()[0] == "lease_ended"
    finally:
        thief.close()
        owner.close()
