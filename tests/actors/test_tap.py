"""A connection that changes hands in the middle of a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgactor.actors import pgwire
from pgactor.actors.tap import RestFirst, Tap

NOTE = b"A\0\0\0\x0c\0\0\0\x07a\0b\0"
EMPTY = b"I\0\0\0\x04"


class Heard(asyncio.Protocol):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


class Wire:
    """A transport of which only the receiver matters."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol


@pytest.mark.parametrize("piece", [1, 2, 4, 7, 100])
@pytest.mark.parametrize("cut", range(1, len(EMPTY + NOTE)))
def test_the_rest_of_a_message_goes_where_it_has_begun_to_go(cut: int, piece: int) -> None:
    before, after, ready = Heard(), Heard(), []
    tap = Tap(before, lambda: ready.append(1), kind=pgwire.READY)
    stream = EMPTY + NOTE + pgwire.READY_IDLE
    tap.data_received(stream[:cut])
    assert bool(tap.missing) is (cut != len(EMPTY))
    wire: Any = Wire(tap)
    wire.protocol = RestFirst(tap, wire, after) if tap.missing else after
    for at in range(cut, len(stream), piece):
        wire.protocol.data_received(stream[at : at + piece])
    assert wire.protocol is after
    assert before.data == (EMPTY if cut <= len(EMPTY) else EMPTY + NOTE)
    assert before.data + after.data == stream
    assert not ready
