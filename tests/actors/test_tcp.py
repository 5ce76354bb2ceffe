"""Where workers may connect by TCP."""

from __future__ import annotations

import socket

import pytest

from pgactor.actors.peer import Peer
from pgactor.actors.supervisor import _gateway
from pgactor.actors.tcp import TcpGateway
from pgactor.errors import ConfigError


class Frames:
    """Nobody."""

    def frame(self, peer: Peer, frame: bytes) -> None:
        raise AssertionError

    def disconnected(self, peer: Peer, reason: str) -> None:
        raise AssertionError

    def malformed(self, peer: Peer | None, reason: str) -> None:
        raise AssertionError


async def listening(endpoint: str) -> TcpGateway:
    gateway = TcpGateway(endpoint)
    await gateway.start(Frames(), max_frame_bytes=1 << 20, max_unsent_bytes=1 << 20)
    return gateway


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5000", "tcp://127.1.2.3:5000", "tcp://localhost:5000", "tcp://[::1]:5000"]
)
def test_loopback_is_accepted(endpoint: str) -> None:
    assert TcpGateway(endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:5000", "tcp://10.0.0.1:5000", "tcp://[::]:5000", "tcp://[2001:db8::1]:5000", "tcp://8.8.8.8:1"],
)
def test_every_other_address_is_refused_with_the_reason(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="without keys on loopback only: anyone who can connect") as caught:
        TcpGateway(endpoint)
    assert str(caught.value).startswith(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://",
        "tcp://:5000",
        "tcp://example.com:5000",
        "tcp://*:5000",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:99999",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"expected tcp://127\.0\.0\.1:PORT or tcp://\[::1\]:PORT"):
        TcpGateway(endpoint)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "tcp://localhost", "tcp://[::1]"])
def test_a_port_is_needed(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="the port is missing"):
        TcpGateway(endpoint)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:5000", "udp://127.0.0.1:5000", "", "TCP://127.0.0.1:5000", "ipc:/x"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="is no endpoint: expected ipc"):
        _gateway(endpoint)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_gateway_tells_the_port_it_got(host: str) -> None:
    if host == "[::1]":
        _skip_without_ipv6()
    gateway = await listening(f"tcp://{host}:0")
    try:
        port = int(gateway.endpoint.rpartition(":")[2])
        assert port > 0
        address = "::1" if host == "[::1]" else "127.0.0.1"
        with socket.create_connection((address, port), timeout=5):
            pass
    finally:
        gateway.close()


async def test_a_port_that_is_in_use_is_refused() -> None:
    first = await listening("tcp://127.0.0.1:0")
    try:
        with pytest.raises(ConfigError, match=f"cannot listen on {first.endpoint}: Address already in use"):
            await listening(first.endpoint)
    finally:
        first.close()


async def test_a_gateway_that_could_not_listen_can_be_closed() -> None:
    first = await listening("tcp://127.0.0.1:0")
    try:
        second = TcpGateway(first.endpoint)
        with pytest.raises(ConfigError):
            await second.start(Frames(), max_frame_bytes=1 << 20, max_unsent_bytes=1 << 20)
        second.close()
    finally:
        first.close()


async def test_a_gateway_that_is_closed_frees_its_port_and_may_be_closed_again() -> None:
    first = await listening("tcp://127.0.0.1:0")
    try:
        first.stop_listening()
        first.stop_listening()
    finally:
        first.close()
        first.close()
    second = await listening(first.endpoint)
    second.close()


async def test_a_gateway_that_never_listened_can_be_closed() -> None:
    gateway = TcpGateway("tcp://127.0.0.1:5000")
    gateway.stop_listening()
    gateway.close()


def _skip_without_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
