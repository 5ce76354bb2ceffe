"""ZeroMQ's wire protocol with a peer that sends anything: it is refused or understood, the same however it is cut,
and no more is held or said than it has sent."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgactor.zmtp import COMMAND, GREETING_BYTES, LONG, MORE, Connection, ZmtpError, frame_header
from tests.fuzz.budget import budget

CAP = 2000
HEADER_BYTES = 9
PEER = Connection("DEALER", max_message_bytes=CAP)
GREETING = PEER.take_output()
PEER.receive(Connection("ROUTER", max_message_bytes=CAP).take_output())
READY = PEER.take_output()

bodies = st.binary(max_size=300)
good = bodies.map(lambda body: frame_header(len(body)) + body)
parts = st.lists(bodies, min_size=1, max_size=5).map(
    lambda some: b"".join(
        frame_header(len(body), MORE if number < len(some) else 0) + body for number, body in enumerate(some, 1)
    )
)
commands = st.tuples(
    st.sampled_from([b"PING", b"PONG", b"ERROR", b"READY", b"SUBSCRIBE", b""]), st.binary(max_size=40)
).map(lambda said: _command(*said))
wrong = st.tuples(
    st.sampled_from([0, MORE, LONG, LONG | MORE, COMMAND, COMMAND | LONG, 0x80, 0xFF]),
    st.integers(0, 2**64 - 1) | st.integers(0, 300) | st.integers(CAP - 2, CAP + 2),
    bodies,
).map(lambda said: bytes([said[0]]) + (said[1].to_bytes(8) if said[0] & LONG else bytes([said[1] % 256])) + said[2])
pieces = st.one_of(good, good, parts, commands, wrong, st.binary(max_size=20))


def _command(name: bytes, data: bytes) -> bytes:
    return frame_header(1 + len(name) + len(data), COMMAND) + bytes([len(name)]) + name + data


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What a peer sends, with some of its bytes spoilt."""
    handshake = draw(st.sampled_from([GREETING + READY, GREETING + READY, GREETING, b""]))
    stream = bytearray(handshake + b"".join(draw(st.lists(pieces, max_size=12))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(stream)


def heard(chunks: list[bytes]) -> tuple[list[list[bytes]], bool, bytes]:
    """The messages before the chunk that was refused, whether one was, and what was answered."""
    end = Connection("ROUTER", max_message_bytes=CAP)
    messages: list[list[bytes]] = []
    output = b""
    given = 0
    for chunk in chunks:
        given += len(chunk)
        try:
            messages += end.receive(chunk)
        except ZmtpError as error:
            _judge(str(error))
            assert end.buffered == 0
            return messages, True, output
        output += end.take_output()
        assert end.buffered <= max(CAP, 8192) + HEADER_BYTES + GREETING_BYTES
        assert len(output) <= GREETING_BYTES + len(READY) + given
    return messages, False, output


def _judge(words: str) -> None:
    assert words.isprintable()
    assert len(words) < 1000


@budget(300)
@given(streams(), st.lists(st.integers(0, 3000), max_size=12))
def test_however_a_stream_is_cut_the_same_is_understood_and_the_same_refused(stream: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole, refused, output = heard([stream])
    cut, cut_refused, cut_output = heard([stream[a:b] for a, b in pairwise(places)])
    single, single_refused, single_output = heard([stream[at : at + 1] for at in range(len(stream))] or [b""])
    assert refused == cut_refused == single_refused
    assert sum(map(len, single)) <= len(stream)
    if not refused:
        assert whole == cut == single
        assert output == cut_output == single_output
    else:  # messages of the refused chunk itself are dropped
        assert single[: len(cut)] == cut
        assert cut[: len(whole)] == whole
