"""ZeroMQ's own wire protocol, without I/O: bytes in, messages out.

This is ZMTP 3.0 with the NULL mechanism, after ZeroMQ RFC 23 (https://rfc.zeromq.org/spec/23/), with PING
and PONG of ZMTP 3.1 (RFC 37), which libzmq also sends to peers of 3.0.

    greeting  0    1         9    10      11      12          32          33       64
              ┌────┬─────────┬────┬───────┬───────┬───────────┬───────────┬────────┐
              │ FF │ padding │ 7F │ major │ minor │ mechanism │ as-server │ filler │
              └────┴─────────┴────┴───────┴───────┴───────────┴───────────┴────────┘
    frame     ┌───────┬────────┬──────┐   flags: 0 0 0 0 0 COMMAND LONG MORE
              │ flags │ length │ body │   length: 1 byte, or 8 with LONG, big-endian
              └───────┴────────┴──────┘
    message   any frames with MORE, then one without: its parts
    command   one frame with COMMAND: size of name, name, data

Each peer sends its greeting at once, READY when it has the other's, and after that messages and commands.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, Literal

from .errors import ProtocolError

MORE: Final = 0b001
LONG: Final = 0b010
COMMAND: Final = 0b100

MAX_COMMAND_BYTES: Final = 8192  # READY and ERROR are the largest that a peer has cause to send
MAX_PARTS: Final = 64  # else a message of endless empty parts would never meet the cap
MAX_PING_CONTEXT_BYTES: Final = 16
MAX_IDENTITY_BYTES: Final = 255

GREETING_BYTES: Final = 64
# To ZMTP 1.0 a signature is the head of a long frame: like libzmq, we make its padding a length of 1.
GREETING: Final = (b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x00" + b"NULL").ljust(GREETING_BYTES, b"\0")

COMPATIBLE: Final = {
    "ROUTER": frozenset({b"DEALER", b"REQ", b"ROUTER"}),
    "DEALER": frozenset({b"ROUTER", b"REP", b"DEALER"}),
}

_pack_short: Final = Struct(">BB").pack
_pack_long: Final = Struct(">BQ").pack
_unpack_length: Final = Struct(">Q").unpack_from


class ZmtpError(ProtocolError):
    """The peer does not speak ZMTP 3 as we need it; the text tells what it did. Close the link."""


def frame_header(length: int, flags: int = 0) -> bytes:
    """What goes before a body of `length` bytes; without flags, to make it a message of one part.

    For big bodies: write this and then the body (sendmsg, writelines), and nothing is copied.
    """
    return _pack_short(flags, length) if length < 256 else _pack_long(flags | LONG, length)


def encode_message(body: bytes) -> bytes:
    """A message of one part, ready to be written. Copies `body`, cheapest as long as it is small."""
    return frame_header(len(body)) + body


class Connection:
    """One end of a ZMTP link.

    The caller writes `take_output()` after construction and after each `receive`, sends messages (made with
    `encode_message`) only once `ready` is true, and closes the link on ZmtpError. A message of the peer may
    hold `max_message_bytes`, all its parts together.

    Raises ValueError if `identity` has more than 255 bytes or begins with a zero byte, which ZMTP reserves.
    """

    def __init__(
        self, socket_type: Literal["ROUTER", "DEALER"], *, max_message_bytes: int, identity: bytes = b""
    ) -> None:
        if len(identity) > MAX_IDENTITY_BYTES or identity.startswith(b"\0"):
            raise ValueError(f"identity must have at most 255 bytes and not begin with zero: {identity!r}")
        self.ready = False
        """Greeting and READY have been exchanged."""
        self.peer_identity = b""
        """What the peer calls itself in READY; often empty."""
        self._socket_type = socket_type
        self._identity = identity
        self._max = max_message_bytes
        self._output = bytearray(GREETING)
        self._greeted = False
        self._rest = bytearray()  # the beginning of a greeting or frame whose end has not come
        self._parts: list[bytes] = []  # of a message whose last part has not come
        self._parts_bytes = 0
        self._failure = ""

    @property
    def buffered(self) -> int:
        """Bytes held of a greeting, command or message that is not yet complete."""
        return len(self._rest) + self._parts_bytes

    def take_output(self) -> bytes:
        """Bytes of the handshake and PONGs, to be written now and before any message; mostly empty."""
        if not self._output:
            return b""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes | bytearray | memoryview) -> list[list[bytes]]:
        """Take what was read from the link; return the messages it completes, each as a list of its parts.

        `data` may be reused afterwards.

        Raises ZmtpError if the peer broke the protocol, and again on every later call. Messages that were
        complete in the same `data` are dropped.
        """
        if self._failure:
            raise ZmtpError(self._failure)
        rest = self._rest
        if rest:
            rest += data
            data = rest
        view = data if type(data) is bytes else memoryview(data)
        messages: list[list[bytes]] = []
        try:
            used = (self._read_frames if self._greeted else self._read_greeting)(view, messages)
        except ZmtpError as error:
            self._failure = str(error)
            self._rest, self._parts, self._parts_bytes = bytearray(), [], 0
            raise
        if used == len(view):
            if rest:
                self._rest = bytearray()  # not clear(): `view` still looks at the old one
        elif used or not rest:
            self._rest = bytearray(view[used:])
        return messages

    def _read_greeting(self, view: bytes | memoryview, messages: list[list[bytes]]) -> int:
        """Judge the greeting as far as it has come, to refuse a stranger early; return the bytes used."""
        head = bytes(view[:GREETING_BYTES])
        signed = head[:1] == b"\xff"
        # ZMTP 1.0 begins with the identity as a frame: length (1 byte, or FF and 8 bytes), flags, ...
        flags = head[9:10] if signed else head[1:2]
        if flags and not (signed and flags == b"\x7f"):
            spoken = "ZMTP 1.0, 3.0 is needed" if flags[0] <= MORE else "something else than ZMTP"
            raise ZmtpError(f"the peer speaks {spoken}: it began with {head[:16]!r}")
        if len(head) > 10 and head[10] < 3:
            raise ZmtpError(f"the peer speaks ZMTP {'2.0' if head[10] else '1.0'}, 3.0 is needed")
        if len(head) < GREETING_BYTES:
            return 0
        mechanism = head[12:32].rstrip(b"\0")
        if mechanism != b"NULL":
            raise ZmtpError(f"the peer wants the security mechanism {_text(mechanism)}, only NULL is spoken here")
        self._greeted = True
        self._output += _command(
            b"READY",
            _property(b"Socket-Type", self._socket_type.encode()) + _property(b"Identity", self._identity),
        )
        return GREETING_BYTES + self._read_frames(view[GREETING_BYTES:], messages)

    def _read_frames(self, view: bytes | memoryview, messages: list[list[bytes]]) -> int:
        """Append the messages that `view` completes to `messages`; return the bytes used."""
        at, end = 0, len(view)
        while at < end:
            flags = view[at]
            if flags > COMMAND | LONG or flags == COMMAND | MORE:
                raise ZmtpError(f"the peer sent a frame with impossible flags: {flags:#010b}")
            start = at + (9 if flags & LONG else 2)
            if start > end:
                break
            length: int = _unpack_length(view, at + 1)[0] if flags & LONG else view[at + 1]
            if flags & COMMAND:
                cap = MAX_COMMAND_BYTES
            elif self.ready:
                cap = self._max - self._parts_bytes
            else:
                raise ZmtpError("the peer sent a message before READY")
            if length > cap:
                raise ZmtpError(f"the peer announced a frame of {length} bytes, at most {cap} are accepted")
            stop = start + length
            if stop > end:
                break
            body = bytes(view[start:stop])
            at = stop
            if not flags & ~LONG and not self._parts:
                messages.append([body])
            elif flags & COMMAND:
                self._obey(body)
            else:
                self._add_part(body, bool(flags & MORE), messages)
        return at

    def _add_part(self, part: bytes, more: bool, messages: list[list[bytes]]) -> None:
        if len(self._parts) == MAX_PARTS:
            raise ZmtpError(f"the peer sent a message of more than {MAX_PARTS} parts")
        self._parts.append(part)
        self._parts_bytes += len(part)
        if not more:
            messages.append(self._parts)
            self._parts, self._parts_bytes = [], 0

    def _obey(self, body: bytes) -> None:
        """Carry out a command."""
        name_end = 1 + body[0] if body else 1
        name, data = body[1:name_end], body[name_end:]
        if not name or name_end > len(body):
            raise ZmtpError(f"the peer sent a malformed command: {_text(body)}")
        if name == b"ERROR":
            raise ZmtpError(f"the peer reports an error: {_text(data[1:])}")
        if not self.ready:
            if name != b"READY":
                raise ZmtpError(f"the peer sent {_text(name)} before READY")
            self._welcome(_read_properties(data))
        elif name == b"PING":
            if len(data) < 2:
                raise ZmtpError("the peer sent a PING without a TTL")
            self._output += _command(b"PONG", data[2 : 2 + MAX_PING_CONTEXT_BYTES])
        # PONG needs no answer, and commands we do not know are to be ignored.

    def _welcome(self, properties: dict[bytes, bytes]) -> None:
        socket_type = properties.get(b"socket-type", b"")
        if socket_type not in COMPATIBLE[self._socket_type]:
            raise ZmtpError(
                f"the peer is a socket of type {_text(socket_type) or '(none)'}, "
                f"which does not go with {self._socket_type}"
            )
        identity = properties.get(b"identity", b"")
        if len(identity) > MAX_IDENTITY_BYTES:
            raise ZmtpError(f"the peer's identity has {len(identity)} bytes, over {MAX_IDENTITY_BYTES}")
        self.peer_identity = identity
        self.ready = True


def _command(name: bytes, data: bytes) -> bytes:
    return frame_header(1 + len(name) + len(data), COMMAND) + bytes((len(name),)) + name + data


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _read_properties(data: bytes) -> dict[bytes, bytes]:
    """The metadata of READY, with names in lower case since their case does not matter."""
    properties: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        start = name_end + 4
        stop = start + int.from_bytes(data[name_end:start], "big")
        if stop > len(data):
            raise ZmtpError("the peer sent a READY whose metadata is cut short")
        properties[data[at + 1 : name_end].lower()] = data[start:stop]
        at = stop
    return properties


def _text(data: bytes) -> str:
    """What a peer sent, fit for an error's text: short, and what is not printable ASCII is escaped."""
    return repr(data[:200])[2:-1]
