"""Who may own, share and stand in the place of an ipc socket."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pgactor import AsyncClient, Client, ConfigError, NotPermitted
from pgactor.actors.supervisor import _gateway
from pgactor.config import Settings
from tests.actors.test_tcp import Frames
from tests.endtoend.processes import Worker
from tests.endtoend.test_supervisor import must_refuse, serve
from tests.supervising import StartSupervisor

NOBODY = 65534
OWN = Settings()
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def listen(path: Path, settings: Settings = OWN) -> None:
    """Serve there for a moment. Raises `ConfigError`."""
    gateway = _gateway(f"ipc://{path}", settings)
    try:
        await gateway.start(Frames(), max_frame_bytes=1024, max_unsent_bytes=1024)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
    finally:
        gateway.close()


def refused(path: Path, words: str) -> None:
    """Both clients say so, before they have said anything else."""
    with Client(f"ipc://{path}", connect_timeout=5) as client, pytest.raises(NotPermitted, match=words):
        client.fetchval("select 1")

    async def ask() -> None:
        async with AsyncClient(f"ipc://{path}", connect_timeout=5):
            pass

    with pytest.raises(NotPermitted, match=words):
        asyncio.run(ask())


class Impostor:
    """Listens at a path, and hears what is said to it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(10)
        path.chmod(0o600)

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> bytes:
        """What the last to come said before he left."""
        self._socket.setblocking(False)
        said = b""
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return said
            with connection:
                connection.settimeout(10)
                said += connection.recv(100)


async def test_the_socket_and_the_directory_made_for_it_are_for_their_owner_alone(
    start_supervisor: StartSupervisor, short_tmp: Path
) -> None:
    path = short_tmp / "new" / "main.sock"
    start_supervisor(endpoints=[f"ipc://{path}"])
    assert (mode(path), mode(path.parent), mode(Path(f"{path}.lock"))) == (0o600, 0o700, 0o600)


async def test_a_directory_in_which_others_can_write_is_refused(short_tmp: Path) -> None:
    short_tmp.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody can write in this directory"):
        await listen(short_tmp / "1.sock")
    assert list(short_tmp.iterdir()) == []
    short_tmp.chmod(0o770)
    with pytest.raises(ConfigError, match="its group can write in this directory"):
        await listen(short_tmp / "1.sock")
    short_tmp.chmod(0o755)
    await listen(short_tmp / "1.sock")


@as_root
async def test_a_directory_of_another_user_is_refused_unless_it_is_shared(short_tmp: Path) -> None:
    os.chown(short_tmp, NOBODY, -1)
    with pytest.raises(ConfigError, match=f"belongs to another user \\(uid {NOBODY}\\)"):
        await listen(short_tmp / "1.sock")
    await listen(short_tmp / "1.sock", Settings(socket_mode=0o660, socket_group=grp.getgrgid(0).gr_name))


async def test_a_file_in_the_sockets_place_is_left_alone(short_tmp: Path) -> None:
    path = short_tmp / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(ConfigError, match="which is no socket; it was left alone"):
        await listen(path)
    assert path.read_text() == "dear diary"


async def test_a_lock_that_is_a_link_to_elsewhere_is_refused(short_tmp: Path) -> None:
    (short_tmp / "1.sock.lock").symlink_to(short_tmp / "elsewhere")
    with pytest.raises(ConfigError, match="cannot listen on"):
        await listen(short_tmp / "1.sock")
    assert not (short_tmp / "elsewhere").exists()


@as_root
def test_mode_and_group_let_another_user_in_and_nobody_else(
    start_supervisor: StartSupervisor, short_tmp: Path
) -> None:
    short_tmp.chmod(0o755)
    path = short_tmp / "shared" / "main.sock"
    group = grp.getgrgid(NOBODY).gr_name if NOBODY in [each.gr_gid for each in grp.getgrall()] else "nogroup"
    gid = grp.getgrnam(group).gr_gid
    start_supervisor(endpoints=[f"ipc://{path}"], socket_mode=0o660, socket_group=group)
    assert (mode(path), mode(path.parent), path.stat().st_gid, path.parent.stat().st_gid) == (0o660, 0o750, gid, gid)
    source = """
        import sys
        from pgactor import Client, PgactorError
        os.setgroups([])
        os.setgid(int(sys.argv[1]))
        os.setuid(1234)
        with Client(connect_timeout=2) as client:
            try:
                say(client.fetchval("select 1"))
            except PgactorError as error:
                say(type(error).__name__)
    """
    for own_group, word in ((gid, 1), (4321, "SupervisorUnavailable")):
        worker = Worker(source, f"ipc://{path}", own_group)
        try:
            assert worker.hear() == word
        finally:
            worker.end()


@as_root
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.parent.chmod(0o777), "everybody can write in the directory"),
        (lambda path: path.chmod(0o666), "everybody can use this socket"),
        (lambda path: os.chown(path.parent, NOBODY, -1), "the directory .* belongs to another user"),
        (lambda path: os.chown(path, NOBODY, -1), "the socket belongs to another user .*socket_mode"),
    ],
)
def test_a_client_does_not_speak_to_a_socket_that_may_be_anothers(
    short_tmp: Path, spoil: Callable[[Path], None], words: str
) -> None:
    path = short_tmp / "1.sock"
    with Impostor(path) as impostor:
        spoil(path)
        refused(path, words)
        assert impostor.heard() == b""


@as_root
def test_a_client_does_not_speak_to_another_user_who_listens_at_its_own_socket(short_tmp: Path) -> None:
    path = short_tmp / "1.sock"
    source = """
        import socket, sys
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[1])
        os.chmod(sys.argv[1], 0o600)
        os.setuid(1234)
        listener.listen()
        say("listening")
        heard = []
        for _ in range(2):
            connection, _ = listener.accept()
            heard.append(connection.recv(100).decode("latin1"))
        say(heard)
    """
    worker = Worker(source, "", path)
    try:
        assert worker.hear() == "listening"
        refused(path, r"another user \(uid 1234\) listens at this socket")
        assert worker.hear() == ["", ""]
    finally:
        worker.end()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("socket_mode = 0o660", "socket_mode and socket_group are expected together"),
        ("socket_mode = 0o666\nsocket_group = 'root'", "nothing for users outside of the group"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(short_tmp: Path, settings: str, words: str) -> None:
    config = short_tmp / "pgactor.toml"
    config.write_text(settings)
    must_refuse(serve("--config", str(config), "--endpoint", f"ipc://{short_tmp}/1.sock"), words)


async def test_a_group_that_is_none_is_refused(short_tmp: Path) -> None:
    with pytest.raises(ConfigError, match="there is no group 'no-such-group'"):
        await listen(short_tmp / "1.sock", Settings(socket_mode=0o660, socket_group="no-such-group"))
