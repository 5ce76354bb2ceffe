"""psqlpy's names of settings, in the file and as keyword arguments."""

from __future__ import annotations

from typing import Any

import pytest

from pgactor import aliases
from pgactor.config.connect import ConnectSettings
from pgactor.config.loading import connect_settings, load
from pgactor.errors import ConfigError

RESOLVED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"username": "u", "db_name": "d"}, {"user": "u", "database": "d"}),
    ({"host": "b", "hosts": ["a"]}, {"host": ["a", "b"]}),
    ({"hosts": ["a", "b"], "ports": [1, 2]}, {"host": ["a", "b"], "port": [1, 2]}),
    ({"port": 3, "ports": [1, 2]}, {"port": [1, 2, 3]}),
    ({"hosts": ["a"], "host": ["b", "c"]}, {"host": ["a", "b", "c"]}),
    ({"connect_timeout_sec": 2}, {"connect_timeout": 2.0}),
    ({"connect_timeout_sec": 2, "connect_timeout_nanosec": 500_000_000}, {"connect_timeout": 2.5}),
    ({"tcp_user_timeout_sec": 2, "tcp_user_timeout_nanosec": 5_000_000}, {"tcp_user_timeout": 2005.0}),
    ({"keepalives_idle_sec": 7, "keepalives_interval_sec": 8}, {"keepalives_idle": 7.0, "keepalives_interval": 8.0}),
    ({"keepalives_retries": 4, "keepalives": True}, {"keepalives_count": 4, "keepalives": True}),
    ({"ssl_mode": "VerifyFull", "ca_file": "/ca"}, {"sslmode": "verify-full", "sslrootcert": "/ca"}),
    ({"ca_file": "/ca"}, {"sslmode": "verify-full", "sslrootcert": "/ca"}),
    ({"ca_file": "/ca", "ssl": True}, {"ssl": True, "sslrootcert": "/ca"}),
    ({"ssl_mode": "verify_ca"}, {"sslmode": "verify-ca"}),
    ({"target_session_attrs": "ReadWrite"}, {"target_session_attrs": "read-write"}),
    ({"target_session_attrs": "prefer-standby"}, {"target_session_attrs": "prefer-standby"}),
    ({"load_balance_hosts": "Random"}, {"load_balance_hosts": "random"}),
]


@pytest.mark.parametrize(("given", "expected"), RESOLVED)
def test_psqlpys_names_are_libpqs(given: dict[str, Any], expected: dict[str, Any]) -> None:
    aliases.resolve(given, {})
    assert given == expected


@pytest.mark.parametrize("table", ["connect", "pool"])
def test_the_pools_are_understood_in_either_table(table: str) -> None:
    tables: dict[str, dict[str, Any]] = {"connect": {}, "pool": {"min_size": 1}}
    tables[table] |= {"max_db_pool_size": 7, "conn_recycling_method": "Verified"}
    aliases.resolve(tables["connect"], tables["pool"])
    assert tables == {"connect": {}, "pool": {"min_size": 1, "max_size": 7, "recycling": "verified"}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({f"{name}_nanosec": 5}, f"{name}_nanosec is expected together with {name}_sec") for name in aliases.DURATIONS),
    ({"username": "u", "user": "u"}, "username and user are two names of one setting"),
    ({"connect_timeout_sec": 1, "connect_timeout": 1}, "connect_timeout_sec and connect_timeout are two names"),
    ({"connect_timeout_sec": "1"}, "connect_timeout_sec is expected to be a number"),
    ({"connect_timeout_sec": -1}, "connect_timeout_sec is expected to be a number, greater or equal to zero"),
    ({"keepalives_idle_sec": 1, "keepalives_idle_nanosec": True}, "keepalives_idle_nanosec is expected to be"),
    ({"max_db_pool_size": 1}, "max_db_pool_size and max_size are two names"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        aliases.resolve(given, {"max_size": 4})


def test_they_are_understood_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[connect]\nusername="u"\nhosts=["a"]\nhost="b"\nmax_db_pool_size=3\nssl_mode="Require"\n')
    settings = load(str(path), environment={})
    assert settings.connect == ConnectSettings(user="u", host=["a", "b"], sslmode="require")
    assert settings.pool.max_size == 3
    path.write_text("[connect]\nconnect_timeout_nanosec = 1\n")
    with pytest.raises(ConfigError, match=f"{path}: connect_timeout_nanosec is expected together"):
        load(str(path), environment={})


def test_they_are_understood_as_keyword_arguments() -> None:
    made = connect_settings("host=h", {"username": "u", "port": "5433", "password": None})
    assert made == ConnectSettings(dsn="host=h", user="u", port=5433)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"usr": "u"}, "unknown field `usr`; did you mean `user`?"),
        ({"port": "many"}, "port"),
        ({"max_db_pool_size": 3}, "cannot be changed with the connect arguments"),
    ],
)
def test_keyword_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect_settings(None, arguments)
    assert words in str(caught.value)
