"""The ZMTP codec on plain sockets against stock libzmq, over ipc, in both roles."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import zmq

from pgactor.zmtp import MORE, Connection, ZmtpError, encode_message, frame_header

Stock = zmq.Socket[bytes]
StockContext = zmq.Context[Stock]

PATIENCE = 20.0  # seconds; only a test that fails waits so long
CAP = 2_000_000
MEGABYTE = bytes(range(250)) * 4000
PONG = b"\x04PONG"


@pytest.fixture
def path() -> Iterator[Path]:
    # Not tmp_path, which may be longer than the 107 bytes a Unix socket's address may have.
    with tempfile.TemporaryDirectory(prefix="z") as folder:
        yield Path(folder) / "s"


@pytest.fixture
def context() -> Iterator[StockContext]:
    with zmq.Context() as context:
        yield context


def stock(context: StockContext, socket_type: int) -> Stock:
    """A socket of libzmq that neither waits forever nor lingers."""
    peer = context.socket(socket_type)
    peer.linger = 0
    peer.sndtimeo = peer.rcvtimeo = round(PATIENCE * 1000)
    peer.sndhwm = peer.rcvhwm = 0
    return peer


def with_heartbeats(peer: Stock) -> Stock:
    """Let it PING every 20 ms and give up a peer that does not PONG in 5 s."""
    peer.heartbeat_ivl = 20
    peer.heartbeat_timeout = 5000
    peer.heartbeat_ttl = 5000
    return peer


class Link:
    """A plain socket that speaks ZMTP, blocking."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.connection = connection
        self.pongs = 0
        self._messages: list[list[bytes]] = []
        self._write_output()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, body: bytes) -> None:
        if len(body) < 10_000:
            self.sock.sendall(encode_message(body))
        else:
            self.sock.sendall(frame_header(len(body)))
            self.sock.sendall(body)

    def make_ready(self) -> None:
        while not self.connection.ready and self.read():
            pass

    def read(self) -> bool:
        """Read once; False if the peer has hung up."""
        data = self.sock.recv(65_536)
        self._messages += self.connection.receive(data)
        self._write_output()
        return bool(data)

    def receive(self) -> list[bytes] | None:
        """The parts of the next message; None if the peer has hung up."""
        while not self._messages:
            if not self.read():
                return None
        return self._messages.pop(0)

    def _write_output(self) -> None:
        if output := self.connection.take_output():
            self.pongs += output.count(PONG)
            self.sock.sendall(output)


class Router(threading.Thread):
    """Our ROUTER side: accepts one peer and sends what `answer` makes of each message, until it hangs up."""

    def __init__(self, path: Path, answer: Callable[[Link, list[bytes]], list[bytes]]) -> None:
        super().__init__()
        self.refusal = ""
        self.peer_identity = b""
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(PATIENCE)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(PATIENCE)
        assert not self.is_alive()

    def run(self) -> None:
        with self._listener:
            sock, _ = self._listener.accept()
            with Link(sock, Connection("ROUTER", max_message_bytes=CAP)) as link:
                try:
                    while parts := link.receive():
                        for body in self._answer(link, parts):
                            link.send(body)
                except ZmtpError as error:
                    self.refusal = str(error)
                except ConnectionError:
                    pass  # the peer has hung up while we were writing
                self.peer_identity = link.connection.peer_identity


def echo(link: Link, parts: list[bytes]) -> list[bytes]:
    return parts


def our_dealer(path: Path, identity: bytes = b"") -> Link:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return Link(sock, Connection("DEALER", max_message_bytes=CAP, identity=identity))


# --- A stock DEALER against our ROUTER


@pytest.mark.parametrize("body", [b"", b"a", bytes(255), bytes(256), MEGABYTE], ids=len)
def test_a_stock_dealer_gets_back_what_it_sent_to_our_router(path: Path, context: StockContext, body: bytes) -> None:
    with Router(path, echo), stock(context, zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{path}")
        dealer.send(body)
        assert dealer.recv_multipart() == [body]


def test_the_identity_of_a_stock_dealer_is_known_to_our_router(path: Path, context: StockContext) -> None:
    with Router(path, echo) as router, stock(context, zmq.DEALER) as dealer:
        dealer.routing_id = b"worker-7"
        dealer.connect(f"ipc://{path}")
        dealer.send(b"hello")
        dealer.recv()
    assert router.peer_identity == b"worker-7"


def test_a_thousand_pipelined_messages_cross_our_router_in_order(path: Path, context: StockContext) -> None:
    bodies = [b"%d " % n * (n % 97) for n in range(1000)]
    with Router(path, echo), stock(context, zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{path}")
        for body in bodies:
            dealer.send(body)
        assert [dealer.recv() for _ in bodies] == bodies


def test_big_and_small_messages_may_be_mixed_and_our_router_may_send_unasked(
    path: Path, context: StockContext
) -> None:
    burst = [MEGABYTE, b"small", MEGABYTE, b""] * 3
    with Router(path, lambda link, parts: burst), stock(context, zmq.DEALER) as dealer:
        dealer.connect(f"ipc://{path}")
        dealer.send(b"go")
        assert [dealer.recv() for _ in burst] == burst


def test_our_router_answers_the_pings_of_a_stock_dealer(path: Path, context: StockContext) -> None:
    def wait_for_pings(link: Link, parts: list[bytes]) -> list[bytes]:
        while link.pongs < 3 and link.read():
            pass
        return [b"%d" % link.pongs]

    with Router(path, wait_for_pings), with_heartbeats(stock(context, zmq.DEALER)) as dealer:
        dealer.connect(f"ipc://{path}")
        dealer.send(b"hello")
        assert int(dealer.recv()) >= 3


def test_the_message_of_a_stock_req_is_seen_as_two_parts(path: Path, context: StockContext) -> None:
    def answer(link: Link, parts: list[bytes]) -> list[bytes]:
        link.sock.sendall(frame_header(0, MORE))  # the empty part that a REQ expects before the answer
        return [repr(parts).encode()]

    with Router(path, answer), stock(context, zmq.REQ) as req:
        req.connect(f"ipc://{path}")
        req.send(b"question")
        assert req.recv() == b"[b'', b'question']"


def test_a_stock_pub_is_refused_by_our_router(path: Path, context: StockContext) -> None:
    with stock(context, zmq.PUB) as pub:
        with Router(path, echo) as router:
            pub.connect(f"ipc://{path}")
        assert "PUB" in router.refusal


# --- Our DEALER against a stock ROUTER


@pytest.mark.parametrize("body", [b"", b"a", bytes(255), bytes(256), MEGABYTE], ids=len)
def test_our_dealer_gets_back_what_it_sent_to_a_stock_router(path: Path, context: StockContext, body: bytes) -> None:
    with stock(context, zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        with our_dealer(path) as dealer:
            dealer.make_ready()
            dealer.send(body)
            identity, got = router.recv_multipart()
            assert got == body
            router.send_multipart([identity, got])
            assert dealer.receive() == [body]


def test_a_stock_router_knows_our_dealer_by_its_identity(path: Path, context: StockContext) -> None:
    with stock(context, zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        with our_dealer(path, b"worker-7") as dealer:
            dealer.make_ready()
            dealer.send(b"hello")
            assert router.recv_multipart() == [b"worker-7", b"hello"]
            router.send_multipart([b"worker-7", b"two", b"parts"])
            assert dealer.receive() == [b"two", b"parts"]


def test_a_thousand_pipelined_messages_cross_a_stock_router_in_order(path: Path, context: StockContext) -> None:
    bodies = [b"%d " % n * (n % 97) for n in range(1000)]
    with stock(context, zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        with our_dealer(path) as dealer:
            dealer.make_ready()
            for body in bodies:
                dealer.send(body)
            for body in bodies:
                identity, got = router.recv_multipart()
                assert got == body
                router.send_multipart([identity, got])
            assert [dealer.receive() for _ in bodies] == [[body] for body in bodies]


def test_our_dealer_answers_the_pings_of_a_stock_router(path: Path, context: StockContext) -> None:
    with with_heartbeats(stock(context, zmq.ROUTER)) as router:
        router.bind(f"ipc://{path}")
        with our_dealer(path) as dealer:
            while dealer.pongs < 3 and dealer.read():
                pass
            dealer.send(b"still here")
            assert router.recv_multipart()[1] == b"still here"


def test_our_dealer_sees_a_stock_router_hang_up(path: Path, context: StockContext) -> None:
    with stock(context, zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        with our_dealer(path) as dealer:
            dealer.make_ready()
            router.close()
            assert dealer.receive() is None


def test_our_dealer_refuses_a_stock_pub(path: Path, context: StockContext) -> None:
    with stock(context, zmq.PUB) as pub:
        pub.bind(f"ipc://{path}")
        with our_dealer(path) as dealer, pytest.raises(ZmtpError, match="PUB"):
            dealer.receive()
