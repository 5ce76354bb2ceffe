"""Where the supervisor answers Prometheus and probes: `metrics_endpoint`."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"


def address_of(endpoint: str) -> tuple[str, int]:
    """The host and port of http://HOST:PORT, HOST:PORT or :PORT, which is on loopback. Raises ValueError."""
    scheme, separator, _ = endpoint.partition("://")
    parts = urlsplit(endpoint if separator else f"http://{endpoint}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if (separator and scheme != "http") or port is None or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError(
            f"metrics_endpoint is expected to be http://HOST:PORT, HOST:PORT or :PORT (got {endpoint!r})"
        )
    return parts.hostname or LOOPBACK, port
