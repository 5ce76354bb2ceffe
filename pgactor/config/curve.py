"""Keys for tcp: `[curve]`."""

from __future__ import annotations

import msgspec


class CurveSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """server_key: the file with the supervisor's secret key. client_keys: the directory with a file for each key that
    a client may have. With them every tcp endpoint speaks CURVE, and may be outside of loopback."""

    server_key: str | None = None
    client_keys: str | None = None

    def __post_init__(self) -> None:
        if (self.server_key is None) != (self.client_keys is None):
            raise ValueError("server_key and client_keys are expected together")
