"""The ZMTP codec alone: two connections joined in memory, and what must never get through."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgactor.errors import ProtocolError
from pgactor.zmtp import (
    COMMAND,
    GREETING,
    LONG,
    MAX_COMMAND_BYTES,
    MAX_PARTS,
    MORE,
    Connection,
    ZmtpError,
    encode_message,
    frame_header,
)

CAP = 100_000


class Pair:
    """A ROUTER and a DEALER joined in memory, with the handshake done."""

    def __init__(self, *, cap: int = CAP, identity: bytes = b"") -> None:
        self.router = Connection("ROUTER", max_message_bytes=cap)
        self.dealer = Connection("DEALER", max_message_bytes=cap, identity=identity)
        while not (self.router.ready and self.dealer.ready):
            to_dealer, to_router = self.router.take_output(), self.dealer.take_output()
            assert to_dealer or to_router
            assert self.dealer.receive(to_dealer) == []
            assert self.router.receive(to_router) == []


def ready_router(cap: int = CAP) -> Connection:
    router = Pair(cap=cap).router
    router.take_output()
    return router


def frame(body: bytes, flags: int = 0) -> bytes:
    return frame_header(len(body), flags) + body


def command(name: bytes, data: bytes = b"") -> bytes:
    return frame(bytes((len(name),)) + name + data, COMMAND)


def ready_command(*properties: tuple[bytes, bytes]) -> bytes:
    return command(b"READY", b"".join(bytes((len(n),)) + n + len(v).to_bytes(4, "big") + v for n, v in properties))


def greeting(*, version: bytes = b"\x03\x00", mechanism: bytes = b"NULL") -> bytes:
    return (b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0")).ljust(64, b"\0")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


# --- Handshake


def test_two_connections_become_ready_when_joined() -> None:
    pair = Pair()
    assert pair.router.ready
    assert pair.dealer.ready
    assert pair.router.take_output() == pair.dealer.take_output() == b""


def test_the_greeting_goes_out_at_once_and_ready_only_after_the_greeting_of_the_peer() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    assert router.take_output() == GREETING
    assert len(GREETING) == 64
    assert router.take_output() == b""
    router.receive(greeting())
    assert router.take_output().startswith(b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER")
    assert not router.ready


def test_a_greeting_may_arrive_one_byte_at_a_time() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    everything = greeting() + ready_command((b"Socket-Type", b"DEALER")) + encode_message(b"hello")
    got = [message for byte in everything for message in router.receive(bytes((byte,)))]
    assert got == [[b"hello"]]
    assert router.buffered == 0


def test_greeting_ready_and_messages_may_arrive_in_one_chunk() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    chunk = greeting() + ready_command((b"Socket-Type", b"DEALER")) + encode_message(b"a") + encode_message(b"b")
    assert router.receive(chunk) == [[b"a"], [b"b"]]


@pytest.mark.parametrize("identity", [b"", b"worker-7", b"i" * 255])
def test_the_identity_reaches_the_peer(identity: bytes) -> None:
    assert Pair(identity=identity).router.peer_identity == identity


@pytest.mark.parametrize("identity", [b"i" * 256, b"\0reserved"])
def test_an_identity_that_zmtp_does_not_allow_is_refused(identity: bytes) -> None:
    with pytest.raises(ValueError, match="identity"):
        Connection("DEALER", max_message_bytes=CAP, identity=identity)


def test_an_identity_of_the_peer_that_is_too_long_is_refused() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    with pytest.raises(ZmtpError, match="identity has 256 bytes"):
        router.receive(greeting() + ready_command((b"Socket-Type", b"DEALER"), (b"Identity", b"i" * 256)))


def test_property_names_are_read_in_any_case_and_unknown_properties_are_ignored() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    router.receive(greeting() + ready_command((b"X-Colour", b"blue"), (b"SOCKET-TYPE", b"DEALER")))
    assert router.ready


@pytest.mark.parametrize(
    ("own", "accepted"), [("ROUTER", {"DEALER", "REQ", "ROUTER"}), ("DEALER", {"ROUTER", "REP", "DEALER"})]
)
@pytest.mark.parametrize(
    "peer",
    ["DEALER", "REQ", "ROUTER", "REP", "PUB", "SUB", "XPUB", "XSUB", "PUSH", "PULL", "PAIR", "dealer", ""],
)
def test_only_socket_types_that_go_together_are_accepted(
    own: Literal["ROUTER", "DEALER"], accepted: set[str], peer: str
) -> None:
    connection = Connection(own, max_message_bytes=CAP)
    chunk = greeting() + ready_command((b"Socket-Type", peer.encode()))
    if peer in accepted:
        connection.receive(chunk)
        assert connection.ready
    else:
        with pytest.raises(ZmtpError, match=rf"{peer or 'none'}.*does not go with {own}"):
            connection.receive(chunk)
        assert not connection.ready


def test_ready_without_a_socket_type_is_refused() -> None:
    with pytest.raises(ZmtpError, match="type \\(none\\)"):
        Connection("ROUTER", max_message_bytes=CAP).receive(greeting() + ready_command())


@pytest.mark.parametrize("metadata", [b"\x0b", b"\x0bSocket-Type", b"\x0bSocket-Type\0\0\0\x07DEALER", b"\0\0"])
def test_ready_with_its_metadata_cut_short_is_refused(metadata: bytes) -> None:
    with pytest.raises(ZmtpError, match="cut short"):
        Connection("ROUTER", max_message_bytes=CAP).receive(greeting() + command(b"READY", metadata))


def test_a_message_before_ready_is_refused_before_its_body_arrives() -> None:
    with pytest.raises(ZmtpError, match="before READY"):
        Connection("ROUTER", max_message_bytes=CAP).receive(greeting() + frame_header(10))


def test_another_command_before_ready_is_refused() -> None:
    with pytest.raises(ZmtpError, match="PING before READY"):
        Connection("ROUTER", max_message_bytes=CAP).receive(greeting() + command(b"PING", b"\0\0"))


def test_a_newer_version_is_spoken_to() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    router.receive(greeting(version=b"\x04\x01") + ready_command((b"Socket-Type", b"DEALER")))
    assert router.ready


# --- Strangers


@pytest.mark.parametrize(
    ("sent", "spoken"),
    [
        (b"GET / HTTP/1.1\r\n", "something else than ZMTP: it began with b'GET / HTTP/1.1"),
        (b"\x16\x03", "something else than ZMTP"),
        (b"\xff" * 10, "something else than ZMTP"),
        (b"\x01\x00", "ZMTP 1.0"),
        (b"\x05\x00", "ZMTP 1.0"),
        (b"\xff" + (300).to_bytes(8, "big") + b"\x00", "ZMTP 1.0"),
        (b"\xff" + bytes(8) + b"\x7f\x00", "ZMTP 1.0"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "ZMTP 2.0"),
        (greeting(mechanism=b"PLAIN"), "PLAIN"),
        (greeting(mechanism=b"CURVE"), "CURVE"),
        (greeting(mechanism=b"NULLIFY"), "NULLIFY"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_stranger_is_refused_as_soon_as_known_and_the_text_names_what_it_spoke(
    sent: bytes, spoken: str, at_once: bool
) -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    *first, last = [sent] if at_once else [bytes((byte,)) for byte in sent[: 2 if sent[0] != 255 else None]]
    for byte in first:
        assert router.receive(byte) == []
    with pytest.raises(ZmtpError) as caught:
        router.receive(last)
    assert spoken.split(":")[0] in str(caught.value)
    assert not at_once or spoken in str(caught.value)


def test_after_an_error_the_connection_is_dead_and_holds_nothing() -> None:
    router = ready_router()
    assert router.receive(frame(b"part", MORE) + b"\x00") == []
    assert router.buffered == 5
    with pytest.raises(ZmtpError, match="flags") as first:
        router.receive(b"\x00\xff")
    assert router.buffered == 0
    with pytest.raises(ZmtpError) as second:
        router.receive(encode_message(b"fine"))
    assert str(second.value) == str(first.value)
    assert isinstance(second.value, ProtocolError)


# --- Messages


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 257, 65_535, 65_536, CAP])
def test_a_message_of_any_size_up_to_the_cap_crosses_both_ways(size: int) -> None:
    pair, body = Pair(), bytes(size)
    assert pair.router.receive(encode_message(body)) == [[body]]
    assert pair.dealer.receive(frame_header(size) + body) == [[body]]


def test_a_short_body_has_a_short_length_and_a_long_one_a_long_length() -> None:
    assert frame_header(255) == b"\x00\xff"
    assert frame_header(256) == b"\x02\0\0\0\0\0\0\x01\0"
    assert encode_message(b"abc") == b"\x00\x03abc"


def test_a_long_length_may_hold_a_small_number() -> None:
    assert ready_router().receive(b"\x02\0\0\0\0\0\0\0\x02ab") == [[b"ab"]]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_received_belongs_to_the_caller_whatever_the_chunk_was(
    kind: type[bytes] | type[bytearray] | type[memoryview],
) -> None:
    router = ready_router()
    for chunk in pieces(encode_message(b"whole") + encode_message(b"in two pieces"), [12]):
        for [body] in router.receive(kind(chunk)):
            assert type(body) is bytes


def test_the_memory_of_a_chunk_may_be_reused() -> None:
    router, memory = ready_router(), bytearray(encode_message(b"first") + b"\x00\x06sec")
    messages = router.receive(memory)
    memory[:] = bytes(len(memory))
    assert messages + router.receive(b"ond") == [[b"first"], [b"second"]]


def test_an_empty_chunk_changes_nothing() -> None:
    router = Connection("ROUTER", max_message_bytes=CAP)
    assert router.receive(b"") == []
    assert ready_router().receive(b"") == []


def test_the_parts_of_a_message_are_reported_together() -> None:
    chunk = frame(b"", MORE) + frame(b"b" * 300, MORE) + frame(b"c") + encode_message(b"next")
    assert ready_router().receive(chunk) == [[b"", b"b" * 300, b"c"], [b"next"]]


def test_a_command_may_come_between_the_parts_of_a_message() -> None:
    router = ready_router()
    assert router.receive(frame(b"a", MORE) + command(b"PING", b"\0\0") + frame(b"b")) == [[b"a", b"b"]]
    assert router.take_output() == command(b"PONG")


def test_a_message_may_have_many_parts_but_not_endlessly_many() -> None:
    router = ready_router()
    assert router.receive(frame(b"", MORE) * (MAX_PARTS - 1) + frame(b"")) == [[b""] * MAX_PARTS]
    with pytest.raises(ZmtpError, match=f"more than {MAX_PARTS} parts"):
        router.receive(frame(b"", MORE) * (MAX_PARTS + 1))


# --- The cap


@pytest.mark.parametrize("length", [CAP + 1, 2**32, 2**63 - 1, 2**64 - 1])
def test_a_length_over_the_cap_is_refused_before_its_body_arrives(length: int) -> None:
    router = ready_router()
    header = frame_header(length)
    assert router.receive(header[:-1]) == []
    assert router.buffered == 8
    with pytest.raises(ZmtpError, match=f"{length} bytes, at most {CAP}"):
        router.receive(header[-1:])
    assert router.buffered == 0


def test_a_small_cap_holds_for_short_lengths_too() -> None:
    router = ready_router(cap=10)
    assert router.receive(encode_message(bytes(10))) == [[bytes(10)]]
    with pytest.raises(ZmtpError, match="11 bytes"):
        router.receive(encode_message(bytes(11)))


def test_the_cap_holds_for_all_parts_of_a_message_together() -> None:
    router = ready_router(cap=1000)
    assert router.receive(frame(bytes(600), MORE) + frame(bytes(400))) == [[bytes(600), bytes(400)]]
    assert router.receive(frame(bytes(600), MORE)) == []
    assert router.buffered == 600
    with pytest.raises(ZmtpError, match="401 bytes, at most 400"):
        router.receive(frame_header(401))


def test_a_command_has_a_small_cap_of_its_own_also_before_ready() -> None:
    for connection, sent in (
        (ready_router(), b""),
        (Connection("ROUTER", max_message_bytes=CAP), greeting()),
    ):
        with pytest.raises(ZmtpError, match=f"at most {MAX_COMMAND_BYTES}"):
            connection.receive(sent + frame_header(MAX_COMMAND_BYTES + 1, COMMAND))


def test_what_is_held_of_an_unfinished_message_is_what_was_received_of_it() -> None:
    router = ready_router()
    message = encode_message(bytes(50_000))
    for i, chunk in enumerate(pieces(message, [1000 * n for n in range(1, 50)])[:-1], 1):
        assert router.receive(chunk) == []
        assert router.buffered == 1000 * i


# --- Flags and commands


@pytest.mark.parametrize("flags", [0x08, 0x10, 0x20, 0x40, 0x80, 0xFF, COMMAND | MORE, COMMAND | LONG | MORE])
def test_flags_that_zmtp_does_not_define_are_refused_at_the_first_byte(flags: int) -> None:
    with pytest.raises(ZmtpError, match=f"impossible flags: {flags:#010b}"):
        ready_router().receive(bytes((flags,)))


@pytest.mark.parametrize("context", [b"", b"c", b"c" * 16])
def test_a_ping_is_answered_with_its_context(context: bytes) -> None:
    router = ready_router()
    assert router.receive(command(b"PING", b"\x00\x0a" + context) + encode_message(b"m")) == [[b"m"]]
    assert router.take_output() == command(b"PONG", context)
    assert router.take_output() == b""


def test_no_more_than_sixteen_bytes_of_a_context_are_returned() -> None:
    router = ready_router()
    router.receive(command(b"PING", b"\0\0" + b"c" * 17))
    assert router.take_output() == command(b"PONG", b"c" * 16)


def test_each_of_many_pings_is_answered() -> None:
    router = ready_router()
    router.receive(b"".join(command(b"PING", b"\0\0" + bytes((n,))) for n in range(100)))
    assert router.take_output() == b"".join(command(b"PONG", bytes((n,))) for n in range(100))


def test_a_pong_and_unknown_commands_are_ignored() -> None:
    router = ready_router()
    chunk = command(b"PONG", b"context") + command(b"SUBSCRIBE", b"x" * 1000) + command(b"READY")
    assert router.receive(chunk + encode_message(b"m")) == [[b"m"]]
    assert router.take_output() == b""


@pytest.mark.parametrize("ready", [True, False])
def test_an_error_of_the_peer_is_raised_with_its_reason(ready: bool) -> None:
    router = ready_router() if ready else Connection("ROUTER", max_message_bytes=CAP)
    with pytest.raises(ZmtpError, match="Invalid client"):
        router.receive((b"" if ready else greeting()) + command(b"ERROR", b"\x0eInvalid client"))


def test_what_a_peer_says_in_an_error_is_shortened_and_cannot_forge_lines_of_a_log() -> None:
    with pytest.raises(ZmtpError) as caught:
        ready_router().receive(command(b"ERROR", b"\xffbad\nline\x1b" + b"x" * 1000))
    assert "bad\\nline\\x1bxxx" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("body", [b"", b"\0", b"\x05PING", b"\xff"])
def test_a_malformed_command_is_refused(body: bytes) -> None:
    with pytest.raises(ZmtpError, match="malformed"):
        ready_router().receive(frame(body, COMMAND))


def test_a_ping_without_a_ttl_is_refused() -> None:
    with pytest.raises(ZmtpError, match="TTL"):
        ready_router().receive(command(b"PING", b"\0"))


# --- Anything at all

sizes = st.sampled_from([0, 1, 2, 254, 255, 256, 257, 5000, 70_000]) | st.integers(0, 600)
messages = st.lists(st.lists(sizes, min_size=1, max_size=3) | sizes.map(lambda size: [size]), max_size=8)
cuts = st.lists(st.integers(0, 80_000) | st.integers(0, 700), max_size=20)


@given(sizes_of_parts=messages, cuts=cuts, handshake=st.booleans())
def test_any_messages_split_anywhere_come_out_whole(
    sizes_of_parts: list[list[int]], cuts: list[int], handshake: bool
) -> None:
    cap = 250_000
    sent = [[bytes((i % 256,)) * size for i, size in enumerate(parts)] for parts in sizes_of_parts]
    stream = b"".join(b"".join(frame(part, MORE) for part in parts[:-1]) + frame(parts[-1]) for parts in sent)
    if handshake:
        router = Connection("ROUTER", max_message_bytes=cap)
        stream = greeting() + ready_command((b"Socket-Type", b"DEALER")) + stream
    else:
        router = ready_router(cap)
    got = [message for piece in pieces(stream, cuts) for message in router.receive(piece)]
    assert got == sent
    assert router.buffered == 0


def hold_against(connection: Connection, chunks: list[bytes], *, most: int) -> None:
    """Feed `chunks`; nothing but ZmtpError may be raised, no more than `most` bytes held, none once dead."""
    dead = False
    for chunk in chunks:
        try:
            connection.receive(chunk)
            assert not dead
        except ZmtpError:
            dead = True
        assert connection.buffered <= (0 if dead else most)


@given(chunks=st.lists(st.binary(max_size=200), max_size=10))
@example(chunks=[b"\xff", b"", bytes(8) + b"\x7f\x03"])
def test_garbage_instead_of_a_greeting_raises_only_zmtp_errors(chunks: list[bytes]) -> None:
    hold_against(Connection("ROUTER", max_message_bytes=CAP), chunks, most=64)


lengths = st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 300)
command_bodies = st.sampled_from([b"\x04PING\0\0", b"\x04PING", b"\x05READY", b"\x05READY\xff", b"\x05ERROR"])


def frames(flags: list[int]) -> st.SearchStrategy[bytes]:
    """Frames whose length is now and then a lie."""
    return st.builds(
        lambda flags, length, body: frame_header(len(body) if length is None else length, flags) + body,
        st.sampled_from(flags),
        lengths,
        st.binary(max_size=300) | command_bodies,
    )


@given(stream=st.lists(frames([0, 0, MORE, 0x08]), max_size=10), cuts=cuts, cap=st.integers(0, 600))
@example(stream=[b"\x00\x00\x04\t\x00\x00\x00\x00", b"\x00\x00", b"\x00\x00"], cuts=[], cap=0)
def test_no_more_is_held_of_messages_than_the_cap_and_a_header(
    stream: list[bytes], cuts: list[int], cap: int
) -> None:
    # What a lie about a length makes of a body must not look like a command, which has a cap of its own.
    no_command = b"".join(stream).translate(bytes(0 if COMMAND <= n < 2 * COMMAND else n for n in range(256)))
    hold_against(ready_router(cap), pieces(no_command, cuts), most=cap + 9)


anything = st.lists(frames([0, 0, MORE, COMMAND, COMMAND, 0x08]) | st.binary(max_size=50), max_size=10)


@given(stream=anything, cuts=cuts)
def test_garbage_after_the_handshake_raises_only_zmtp_errors(stream: list[bytes], cuts: list[int]) -> None:
    hold_against(ready_router(), pieces(b"".join(stream), cuts), most=CAP + MAX_COMMAND_BYTES + 9)


@given(stream=anything, cuts=cuts)
def test_garbage_instead_of_ready_raises_only_zmtp_errors(stream: list[bytes], cuts: list[int]) -> None:
    dealer = Connection("DEALER", max_message_bytes=CAP)
    hold_against(dealer, pieces(greeting() + b"".join(stream), cuts), most=MAX_COMMAND_BYTES + 9)
