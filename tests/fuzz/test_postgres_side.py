"""The statement lane with a PostgreSQL that says anything, in pieces of any size: each request gets its own rows or
an error, once, or the connection is cut and what is left is told apart into what never ran and what may have."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.actors.scripts import (
    BOUND,
    CLOSED,
    EMPTY,
    IDLE,
    INT4,
    NO_DATA,
    NOTICE,
    NOTIFICATION,
    PARAMETER,
    PARSED,
    SUSPENDED,
    Bench,
    described,
    error,
    fatal,
    gives,
    message,
    number,
    row,
    split,
    tag,
    takes,
)
from tests.client.virtual import now, run, turns
from tests.fuzz.budget import budget

SQL = "select a from t where b = $1"
BATCH = "insert into t values ($1)"
LOST = error("26000", routine="FetchPreparedStatement")
CHANGED = error("0A000", routine="RevalidateCachedQuery")
CANCELED = error("57014", routine="ProcessInterrupts")


@contextmanager
def alone() -> Iterator[None]:
    """The pipeline's clock is the loop's, and what it says of each connection that it cuts is not kept."""
    logging.disable(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("cancelling", "flight", "turn"):
            patch.setattr(f"pgactor.actors.{module}.monotonic", now)
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    with alone():
        yield


# --- what PostgreSQL may say --------------------------------------------------------------------------------


KINDS = "123ACDEGHINRSTVWZcdnstv"
FINE = (
    *(
        BOUND,
        CLOSED,
        EMPTY,
        IDLE,
        NO_DATA,
        NOTICE,
        NOTIFICATION,
        PARAMETER,
        PARSED,
        SUSPENDED,
        LOST,
        CHANGED,
        CANCELED,
    ),
    *(error("22012"), fatal(), takes(), takes(INT4), takes(25, INT4), gives(INT4), gives(25), gives(), gives(869)),
    *map(tag, ("SELECT 1", "SELECT 0", "INSERT 0 1", "BEGIN", "COMMIT", "ROLLBACK", "")),
    *(message("Z", b"T"), message("Z", b"E"), message("Z"), described(), described(parameters=(INT4,))),
    *(number(0), row(), row(None), row(b""), row(b"12345678"), row(None, None)),
)
fine = st.sampled_from(FINE)
framed = st.tuples(st.sampled_from(KINDS), st.binary(max_size=30)).map(lambda said: message(*said))
corrupt = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 2**32 - 1) | st.integers(0, 12) | st.just(2**30), st.binary(max_size=12)
).map(lambda said: said[0].encode() + said[1].to_bytes(4) + said[2])
anything = st.one_of(fine, fine, framed, corrupt, st.binary(max_size=10))


class Server:
    """A PostgreSQL that does as it is told, and whose every message may be spoilt on its way."""

    def __init__(self) -> None:
        self._unit: list[tuple[str, bytes]] = []

    def hear(self, data: bytes) -> list[bytes]:
        """What it answers, message by message."""
        said: list[bytes] = []
        for kind, body in split(data):
            match kind:
                case "C":
                    said.append(CLOSED)
                case "P":
                    said.append(PARSED)
                case "D":
                    said += [takes(INT4), gives(INT4)]
                case "B":
                    self.argument = body[body.index(b"\0\0\0\4") + 4 :][:4]
                    said.append(BOUND)
                case "E":
                    said += [row(self.argument), tag("SELECT 1")]
                case "S":
                    said.append(IDLE)
        return said


spoiling = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["drop", "double", "swap", "insert", "shorten", "lengthen", "flip"]),
        fine.filter(lambda said: not said.startswith(b"D")) | framed.filter(lambda said: not said.startswith(b"D")),
    ),
    max_size=3,
)


def spoilt(said: list[bytes], changes: list[tuple[int, str, bytes]]) -> bytes:
    """The messages, some of them out of their places or out of shape; no row of them has become another row."""
    said = list(said)
    for place, how, other in changes:
        if not said:
            break
        at = place % len(said)
        one = said[at]
        match how:
            case "drop":
                del said[at]
            case "double":
                said.insert(at, one)
            case "swap" if at + 1 < len(said) and not (one[:1] == b"D" or said[at + 1][:1] == b"D"):
                said[at : at + 2] = [said[at + 1], one]
            case "insert":
                said.insert(at, other)
            case "shorten":
                said[at] = one[:-1]
            case "lengthen" if len(one) >= 5:
                (length,) = struct.unpack_from(">I", one, 1)
                said[at] = one[:1] + (length + 1 + place * 1000).to_bytes(4) + one[5:]
            case "flip" if one and one[:1] != b"D":
                said[at] = bytes([one[0] ^ (1 << place % 8)]) + one[1:]
    return b"".join(said)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at, number = 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


async def read(bench: Bench, data: bytes, sizes: list[int]) -> None:
    for piece in pieces(data, sizes):
        bench.read(piece)
        while bench.transport.is_paused() and not bench.is_cut():
            await turns(1)
    await turns(4)


def check_the_books(bench: Bench) -> None:
    """Everybody's request has ended once, or is told apart."""
    bench.breaks()
    never, unknown = bench.unrun(), bench.unknown()
    told = [each[1] for each in bench.events]
    ends = sorted([*told, *never, *unknown])
    assert ends == sorted({request.id for request in bench.sent}), (ends, bench.events)


@budget(250)
@given(
    requests=st.lists(st.sampled_from(["fetch", "fetch", "execute", "limited"]), min_size=1, max_size=8),
    known=st.booleans(),
    changes=spoiling,
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    withdrawn=st.lists(st.integers(0, 7), max_size=2),
)
def test_no_request_gets_rows_that_are_not_its_own_whatever_is_out_of_its_place(
    requests: list[str], known: bool, changes: list[tuple[int, str, bytes]], sizes: list[int], withdrawn: list[int]
) -> None:
    async def story() -> None:
        bench = Bench()
        server = Server()
        if known:
            await bench.knows(SQL, columns=gives(INT4), parameters=(INT4,))
        for kind in requests:
            argument = 1000 + len(bench.sent)
            if kind == "execute":
                bench.execute(SQL, argument)
            else:
                bench.fetch(SQL, argument, limit=kind == "limited")
        for _ in range(12):
            await turns(3)
            written = b"".join(bench.transport.writes)
            bench.transport.writes.clear()
            if not written or bench.is_cut():
                break
            await read(bench, spoilt(server.hear(written), changes), sizes)
            changes.clear()
            for place in withdrawn:
                if place < len(bench.sent) and bench.sent[place] not in [*bench.back, *bench.given_away]:
                    bench.withdraw(bench.sent[place])
            withdrawn.clear()
        for what, own, *found in bench.events:
            if what == "rows":
                assert all(each == [1000 + own - 1] for each in found[0]), bench.events
        check_the_books(bench)

    run(story())


@budget(300)
@given(
    stream=st.lists(anything, max_size=15),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    known=st.booleans(),
    requests=st.integers(0, 3),
)
def test_whatever_is_said_costs_no_more_than_the_connection(
    stream: list[bytes], sizes: list[int], known: bool, requests: int
) -> None:
    async def story() -> None:
        bench = Bench()
        if known or not requests:
            await bench.knows(SQL, columns=gives(INT4), parameters=(INT4,))
        for _ in range(requests):
            bench.fetch(SQL, 7)
        await turns(3)
        await read(bench, b"".join(stream), sizes)
        bench.reads()
        check_the_books(bench)

    run(story())


def test_the_server_that_is_not_spoilt_is_understood() -> None:
    async def story() -> None:
        bench, server = Bench(), Server()
        for argument in range(5):
            bench.fetch(SQL, argument)
        for _ in range(3):
            await turns(3)
            written = b"".join(bench.transport.writes)
            bench.transport.writes.clear()
            await read(bench, spoilt(server.hear(written), []), [7])
        assert bench.events == [("rows", number + 1, [[number]]) for number in range(5)]
        assert bench.is_over()

    run(story())
