"""Whatever arrives at an endpoint gets a clear answer where one is possible, is counted, and disturbs nobody else.

Strangers are written by hand: bare sockets, pyzmq's own DEALER and ROUTER, and msgpack without pgactor's structs.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from pgactor import AsyncClient, Client, OutcomeUnknown, ProtocolError, SupervisorUnavailable, wire
from pgactor.messages import Acquire, Done, Failed, Fetch, Granted, Hello, Request, Rows, Token, Welcome
from pgactor.messages.unions import FromWorker
from pgactor.rows import Column, ColumnKind
from tests.integration.conftest import Launch, OpenClient
from tests.integration.driving import Driven, LoopThread, WatchedSupervisor
from tests.supervising import free_port, until

CAP = 100_000
ROADS = ("ipc", "tcp")

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


@pytest.fixture(scope="module")
def supervisor(launch: Launch) -> WatchedSupervisor:
    return launch(max_size=2, max_frame_bytes=CAP)


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def friend(supervisor: WatchedSupervisor, open_client: OpenClient) -> Driven:
    """An ordinary worker."""
    return open_client(supervisor, "async-ipc", label="friend")


@pytest.fixture(autouse=True)
def undisturbed(supervisor: WatchedSupervisor, open_client: OpenClient) -> Iterator[None]:
    """An ordinary worker on each road who works all the while, and to whom nothing happens."""
    stop = threading.Event()
    errors: list[BaseException] = []
    done = [0, 0]

    def work(number: int) -> None:
        client = open_client(supervisor, ("sync-ipc", "sync-tcp")[number])
        try:
            while not stop.is_set():
                assert client.fetchval("select $1::int", done[number]) == done[number]
                done[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: errors or min(done) > 0)
    yield
    before = list(done)
    until(lambda: errors or all(now > then for now, then in zip(done, before, strict=True)))
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not errors


def malformed(client: Driven) -> int:
    """How many malformed messages were counted."""
    return int(client.status().counters["malformed_messages"])


class Stranger:
    """A stock DEALER that speaks msgpack by hand."""

    def __init__(self, dealer: Any) -> None:
        self._dealer = dealer
        self.epoch = 0

    def send(self, *messages: Any) -> None:
        """Send a frame of messages."""
        self._dealer.send(pack(messages))

    def send_bytes(self, *parts: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._dealer.send_multipart(parts)

    def receive(self) -> list[Any]:
        """The next messages."""
        frame: list[Any] = unpack(self._dealer.recv())
        return frame or self.receive()  # empty ones only look whether we are there

    def one(self) -> list[Any]:
        """The next message, which is alone."""
        (message,) = self.receive()
        return list(message)

    def hello(self) -> None:
        """Be welcomed."""
        self.send(["hello", 1, "stranger", 0, "by hand"])
        welcome = self.one()
        assert welcome[:2] == ["welcome", 1]
        self.epoch = welcome[2]

    def still_served(self) -> None:
        """A request of ours is answered."""
        self.send(["fetch", 990, self.epoch, 5.0, "select 99", []])
        reply = self.one()
        assert reply[:2] == ["rows", 990], reply


@contextmanager
def stranger(endpoint: str) -> Iterator[Stranger]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = 10_000
        dealer.connect(endpoint)
        yield Stranger(dealer)


def connected(supervisor: WatchedSupervisor, road: str) -> socket.socket:
    """A bare socket."""
    if road == "ipc":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(supervisor.ipc.removeprefix("ipc://"))
    else:
        sock = socket.create_connection(("127.0.0.1", int(supervisor.tcp.rpartition(":")[2])))
    sock.settimeout(10)
    return sock


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(55, b"\0")
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
READY = bytes((4, len(_READY))) + _READY


# --- who does not even speak ZeroMQ -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise",
    [
        bytes(range(256)) * 20,
        b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"x" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f" * 20,
        GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
        GREETING + b"\xff\xff" * 20,
        GREETING + READY + b"\x07\xff" + bytes(100),
        GREETING + READY.replace(b"DEALER", b"ROUTEX"),
    ],
    ids=[
        "garbage",
        "HTTP",
        "TLS",
        "PostgreSQL",
        "CURVE",
        "impossible flags",
        "flags after READY",
        "a strange socket",
    ],
)
def test_who_speaks_something_else_is_cut_off(
    supervisor: WatchedSupervisor, friend: Driven, road: str, noise: bytes
) -> None:
    before = malformed(friend)
    with connected(supervisor, road) as sock, suppress(ConnectionError):
        sock.sendall(noise)
        assert friend.fetchval("select 1") == 1
        while road == "ipc" and sock.recv(4096):
            pass  # its greeting; then the end. On tcp libzmq may wait for more
    if road == "ipc":
        until(lambda: malformed(friend) == before + 1)


def test_who_says_nothing_or_half_a_word_is_simply_there(
    supervisor: WatchedSupervisor, friend: Driven, road: str
) -> None:
    before = malformed(friend)
    halves = [b"", GREETING[:10], GREETING, GREETING + READY[:9], GREETING + READY + b"\x00\x50half a frame"]
    for half in halves:
        with connected(supervisor, road) as sock:
            sock.sendall(half)
            assert friend.fetchval("select 1") == 1
    assert malformed(friend) == before


# --- who speaks ZeroMQ, but not our protocol --------------------------------------------------------------


def test_another_version_is_told_both_versions_and_cut_off(
    supervisor: WatchedSupervisor, friend: Driven, road: str
) -> None:
    before = malformed(friend)
    with stranger(getattr(supervisor, road)) as them:
        them.send(["hello", 77, "from the future", 0, "pgactor 9.9", 1, "and", {"more": 1}])
        failed = them.one()
        assert failed[:3] == ["failed", None, "protocol"]
        assert "the worker speaks version 77 of the protocol" in failed[3]
        assert "speaks 1: use the same pgactor on both sides" in failed[3]
    assert malformed(friend) == before + 1


def test_without_a_hello_nothing_is_done(
    supervisor: WatchedSupervisor, friend: Driven, road: str, table: str
) -> None:
    before = malformed(friend)
    epoch = friend.status().epoch
    with stranger(getattr(supervisor, road)) as them:
        them.send(["execute", 5, epoch, None, f"insert into {table} values (1)", []])
        failed = them.one()
        assert failed[:3] == ["failed", 5, "protocol"]
        assert failed[3] == "the first message on a link is expected to be a hello"
        them.send(["heartbeat", []])
        assert them.one()[:3] == ["failed", None, "protocol"]
        them.hello()
        them.still_served()
    assert malformed(friend) == before + 2
    assert friend.fetchval(f"select count(*) from {table}") == 0


def _deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


MALFORMED: dict[str, tuple[Callable[[int], bytes], int | None, str]] = {
    "no msgpack": (lambda e: b"\xc1\xc1\xc1", None, "not a msgpack array of messages"),
    "nothing": (lambda e: b"", None, "not a msgpack array of messages"),
    "no array": (lambda e: pack({"tag": "fetch"}), None, "not a msgpack array of messages"),
    "cut short": (lambda e: pack([["fetch", 1, e, None, "select 1"]])[:-3], None, "not a msgpack array of messages"),
    "something behind": (lambda e: pack([["status", 1, e, None]]) + b"\xc0", None, "not a msgpack array of messages"),
    "a message that is no array": (lambda e: pack(["hello"]), None, "not understood"),
    "an unknown tag": (lambda e: pack([["drop_everything", 6, e, None]]), 6, "Invalid value 'drop_everything'"),
    "a number as the tag": (lambda e: pack([[1, 6, e, None]]), 6, "not understood"),
    "an empty message": (lambda e: pack([[]]), None, "not understood"),
    "too few fields": (lambda e: pack([["fetch", 7, e]]), 7, "at least length 5"),
    "a statement that is no text": (lambda e: pack([["fetch", 8, e, None, 5, []]]), 8, "Expected `str`, got `int`"),
    "args that are no list": (lambda e: pack([["fetch", 8, e, None, "select 1", "x"]]), 8, "Expected `array`"),
    "an id that is no number": (lambda e: pack([["fetch", "x", e, None, "select 1", []]]), None, "Expected `int`"),
    "an id below zero": (lambda e: pack([["fetch", -1, e, None, "select 1", []]]), None, "not understood"),
    "a timeout that is none": (lambda e: pack([["fetch", 9, e, "soon", "select 1", []]]), 9, "Expected `float"),
    "a ttl below zero": (lambda e: pack([["acquire", 9, e, None, -1.0]]), 9, "Expected `float` > 0"),
    "an unknown extension": (
        lambda e: pack([["fetch", 10, e, None, "select 1", [msgspec.msgpack.Ext(99, b"?")]]]),
        10,
        "99",
    ),
    "an extension with nonsense in it": (
        lambda e: pack([["fetch", 10, e, None, "select 1", [msgspec.msgpack.Ext(2, b"ten")]]]),
        10,
        "not understood",
    ),
    "args that are nested too deeply": (
        lambda e: b"\x91\x96" + pack("fetch") + pack(11) + pack(e) + pack(None) + pack("select 1") + _deep(5000),
        None,
        "not a msgpack array of messages",
    ),
    "a frame that is nested too deeply": (lambda e: _deep(50_000), None, "not a msgpack array of messages"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_answered_and_counted_and_the_link_goes_on(
    supervisor: WatchedSupervisor, friend: Driven, road: str, name: str
) -> None:
    make, number, said = MALFORMED[name]
    before = malformed(friend)
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        them.send_bytes(make(them.epoch))
        failed = them.one()
        assert failed[:3] == ["failed", number, "protocol"], failed
        assert said in failed[3], failed
        them.still_served()
    assert malformed(friend) == before + 1


def test_one_malformed_message_costs_only_its_own_request(
    supervisor: WatchedSupervisor, friend: Driven, road: str
) -> None:
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        them.send(
            ["fetch", 1, them.epoch, 5.0, "select 1", []],
            ["fetch", 2, them.epoch, 5.0, 2, []],
            ["fetch", 3, them.epoch, 5.0, "select 3", []],
        )
        replies: dict[int, list[Any]] = {}
        while len(replies) < 3:
            replies |= {reply[1]: reply for reply in them.receive()}
        assert [replies[number][0] for number in (1, 2, 3)] == ["rows", "failed", "rows"]


def test_a_message_of_several_parts_is_refused(supervisor: WatchedSupervisor, friend: Driven, road: str) -> None:
    before = malformed(friend)
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        them.send_bytes(b"", pack([["status", 1, them.epoch, None]]))
        failed = them.one()
        assert failed[:3] == ["failed", None, "protocol"]
        assert "expected to have one part, this one had 2" in failed[3]
        them.still_served()
    assert malformed(friend) == before + 1


def test_a_frame_over_the_cap_ends_the_link(supervisor: WatchedSupervisor, friend: Driven) -> None:
    before = malformed(friend)
    with connected(supervisor, "ipc") as sock:
        sock.sendall(GREETING + READY)
        sock.sendall(b"\x02" + (2**62).to_bytes(8, "big") + b"x" * 1000)  # only announced
        received = b""
        with suppress(ConnectionError):
            while data := sock.recv(4096):
                received += data
    assert f"announced a frame of {2**62} bytes, at most {CAP} are accepted".encode() in received
    assert malformed(friend) == before + 1


def test_a_frame_over_the_cap_is_not_taken_on_tcp_either(supervisor: WatchedSupervisor, friend: Driven) -> None:
    with connected(supervisor, "tcp") as sock:
        sock.sendall(GREETING + READY)
        with suppress(ConnectionError):
            sock.sendall(b"\x02" + (2**40).to_bytes(8, "big") + b"x" * 1000)
            while sock.recv(4096):
                pass


def test_a_second_hello_is_refused(supervisor: WatchedSupervisor, road: str) -> None:
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        them.send(["hello", 1])
        failed = them.one()
        assert failed[:4] == ["failed", None, "protocol", "hello was said already on this link"]
        them.still_served()


# --- who speaks our protocol, and wants too much ----------------------------------------------------------


def test_a_request_for_another_epoch_does_not_run(
    supervisor: WatchedSupervisor, friend: Driven, road: str, table: str
) -> None:
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        for epoch in (0, them.epoch - 1, them.epoch + 1):
            them.send(["execute", 5, epoch, None, f"insert into {table} values (1)", []])
            failed = them.one()
            assert failed[:3] == ["failed", 5, "supervisor_unavailable"]
            assert "earlier life of the supervisor; it was not run" in failed[3]
        them.still_served()
    assert friend.fetchval(f"select count(*) from {table}") == 0


def test_the_token_of_another_worker_opens_nothing(
    supervisor: WatchedSupervisor, friend: Driven, road: str, table: str
) -> None:
    with friend.acquire() as lease, stranger(getattr(supervisor, road)) as them:
        lease.execute("begin")
        lease.execute(f"insert into {table} values (1)")
        token = lease.target.token
        them.hello()
        theirs = [token.epoch, token.holder, token.fence]
        for tag in ("execute", "fetch"):
            args: list[Any] = [] if tag == "execute" else [[], 0]
            them.send([tag, 5, them.epoch, None, "commit", *(args or [[]]), theirs])
            failed = them.one()
            assert failed[:3] == ["failed", 5, "lease_lost"], failed
            assert "belongs to another worker" in failed[3]
        for guess in ([token.epoch, token.holder, token.fence + 1], [token.epoch, 99, token.fence], [1, 0, 1]):
            them.send(["execute", 6, them.epoch, None, "commit", [], guess])
            assert them.one()[:3] == ["failed", 6, "lease_lost"]
        them.send(["release", theirs], ["heartbeat", [theirs]], ["cancel", 12345])
        them.still_served()
        assert lease.is_in_transaction()
        lease.execute("rollback")
    assert friend.fetchval(f"select count(*) from {table}") == 0


def test_an_id_that_is_in_use_is_refused(supervisor: WatchedSupervisor, friend: Driven, road: str) -> None:
    before = malformed(friend)
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        slow = ["fetch", 7, them.epoch, None, "select 'slow' from pg_sleep(0.2)", []]
        them.send(slow, ["fetch", 7, them.epoch, None, "select 'quick'", []])
        failed = them.one()
        assert failed[:3] == ["failed", None, "protocol"]
        assert "request id 7 is in use by an unanswered request of this worker" in failed[3]
        rows = them.one()
        assert rows[:2] == ["rows", 7]
        assert rows[4] == [["slow"]]
        them.still_served()
    assert malformed(friend) == before + 1


def test_a_stock_dealer_is_a_worker_like_any_other(
    supervisor: WatchedSupervisor, friend: Driven, road: str, table: str
) -> None:
    with stranger(getattr(supervisor, road)) as them:
        them.hello()
        them.send(["fetch", 1, them.epoch, 5.0, "select $1::int as n, $2::text as t", [7, "sieben"]])
        rows = them.one()
        assert rows[:2] == ["rows", 1]
        assert [[column[0], column[1], column[2]] for column in rows[3]] == [
            ["n", "int", "int4"],
            ["t", "str", "text"],
        ]
        assert rows[4] == [[7, "sieben"]]
        them.send(["fetch", 2, them.epoch, 5.0, "select $1::int as n, $2::text as t", [8, None]])
        assert them.one()[:5] == ["rows", 2, rows[2], None, [[8, None]]]  # the shape is told once

        them.send(["acquire", 3, them.epoch, 5.0, 30.0])
        granted = them.one()
        assert granted[:2] == ["granted", 3]
        token = granted[2]
        them.send(["execute", 4, them.epoch, 5.0, "begin", [], token])
        assert them.one()[:4] == ["done", 4, "BEGIN", True]
        them.send(
            ["executemany", 5, them.epoch, 5.0, f"insert into {table} values ($1, $2)", [[1, "a"], [2, None]], token]
        )
        assert them.one()[:2] == ["done", 5]
        them.send(["execute", 6, them.epoch, 5.0, "commit", [], token])
        assert them.one()[:4] == ["done", 6, "COMMIT", False]
        them.send(["release", token])
        them.send(["fetch", 7, them.epoch, 5.0, "select 1 / 0", []])
        failed = them.one()
        assert failed[:5] == ["failed", 7, "asyncpg", "division by zero", "DivisionByZeroError"]
        assert failed[5]["sqlstate"] == "22012"
        them.send(["status", 8, them.epoch, None])
        report = them.one()
        assert report[:2] == ["status_report", 8]
        assert report[2]["leased"] == 0
        them.send(["bye"])
    assert friend.fetch(f"select id, name from {table} order by id") == [(1, "a"), (2, None)]


# --- our clients, and a supervisor that is none of ours ---------------------------------------------------


class FakeSupervisor:
    """A stock ROUTER that answers as it is told to."""

    def __init__(self, endpoint: str, answer: Callable[[FromWorker], list[Any] | bytes]) -> None:
        self.endpoint = endpoint
        self.heard: list[FromWorker] = []
        self._answer = answer
        self._frames = wire.worker_frames(1 << 20)
        self._stopping = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._listening.wait(5)

    def _serve(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(self.endpoint)
            self._listening.set()
            while not self._stopping.is_set():
                if not router.poll(20):
                    continue
                who, frame = router.recv_multipart()
                for message in self._frames.decode(frame):
                    assert not isinstance(message, wire.Malformed)
                    self.heard.append(message)
                    answer = self._answer(message)
                    if answer:
                        router.send_multipart([who, answer if isinstance(answer, bytes) else wire.encode(answer)])

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5)


@contextmanager
def fake_supervisor(
    folder: Path, road: str, answer: Callable[[FromWorker], list[Any] | bytes]
) -> Iterator[FakeSupervisor]:
    endpoint = f"ipc://{folder}/fake.sock" if road == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    fake = FakeSupervisor(endpoint, answer)
    try:
        yield fake
    finally:
        fake.close()


def polite(message: FromWorker) -> list[Any] | bytes:
    """What a supervisor of ours might say."""
    match message:
        case Hello(version=version):
            return [Welcome(version, 4711, "fake", 1 << 20)]
        case Fetch(id=number):
            columns = [Column("one", ColumnKind.INT, "int4")]
            return [Rows(number, 1, columns, msgspec.Raw(pack([[1]])))]
        case Acquire(id=number):
            return [Granted(number, Token(4711, 0, 1), 30.0, 123)]
        case Request(id=number):
            return [Done(number, "DONE", False)]
    return []


@contextmanager
def our_clients(endpoint: str, loop: LoopThread, **options: Any) -> Iterator[list[Driven]]:
    clients = [Driven(Client(endpoint, **options), None), Driven(AsyncClient(endpoint, **options), loop)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def test_our_clients_speak_to_a_stock_router(short_tmp: Path, road: str, loop_thread: LoopThread) -> None:
    with fake_supervisor(short_tmp, road, polite) as fake, our_clients(fake.endpoint, loop_thread) as clients:
        for client in clients:
            assert client.fetch("select 1") == [(1,)]
            with client.acquire() as lease:
                assert lease.execute("set x = 1") == "DONE"
                assert lease.target.backend_pid == 123
            assert client.execute("x" * 100_000) == "DONE"  # a frame with a long length
            client.close()
        until(lambda: [type(message).__name__ for message in fake.heard].count("Bye") == 2)
        hello = fake.heard[0]
        assert isinstance(hello, Hello)
        assert hello.library.startswith("pgactor ")
        kinds = [type(message).__name__ for message in fake.heard]
        assert kinds == ["Hello", "Fetch", "Acquire", "Execute", "Release", "Execute", "Bye"] * 2


@pytest.mark.parametrize("nonsense", [b"\xc1", b"\x91\x91\xa4what", pack([["welcome"]]), pack({"a": 1})])
def test_a_supervisor_that_talks_nonsense_ends_the_link(
    short_tmp: Path, road: str, loop_thread: LoopThread, nonsense: bytes
) -> None:
    def answer(message: FromWorker) -> list[Any] | bytes:
        return polite(message) if isinstance(message, Hello) else nonsense

    with fake_supervisor(short_tmp, road, answer) as fake, our_clients(fake.endpoint, loop_thread) as clients:
        for client in clients:
            with pytest.raises((ProtocolError, OutcomeUnknown)):
                client.fetch("select 1", timeout=5)


def test_a_supervisor_of_another_version_is_said_at_once(short_tmp: Path, road: str, loop_thread: LoopThread) -> None:
    words = "the worker speaks version 1 of the protocol, this supervisor speaks 2"

    def answer(message: FromWorker) -> list[Any]:
        return [Failed(None, "protocol", words)]

    with fake_supervisor(short_tmp, road, answer) as fake, our_clients(fake.endpoint, loop_thread) as clients:
        for client in clients:
            with pytest.raises(ProtocolError, match=words):
                client.fetch("select 1", timeout=5)


def test_whoever_listens_and_never_answers_is_no_supervisor(
    short_tmp: Path, road: str, loop_thread: LoopThread
) -> None:
    with (
        fake_supervisor(short_tmp, road, lambda message: []) as fake,
        our_clients(fake.endpoint, loop_thread, connect_timeout=0.3) as clients,
    ):
        for client in clients:
            with pytest.raises(SupervisorUnavailable, match=r"connect_timeout \(0.3 s\): .* did not answer"):
                client.fetch("select 1")
