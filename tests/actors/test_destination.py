"""Where the settings of [connect] lead: settings, dsn, service, environment, in this order."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgactor.actors.destination import DEFAULT_HOSTS, Destination, Host, find
from pgactor.config.connect import DEFAULT_CONNECT_SECONDS, ConnectSettings
from pgactor.errors import ConfigError

NOWHERE = {"HOME": "/nowhere"}


def found(dsn: str | None = None, *, environment: dict[str, str] | None = None, **settings: Any) -> Destination:
    return find(ConnectSettings(dsn=dsn, **settings), environment={**NOWHERE, **(environment or {})})


def refused(dsn: str | None = None, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        found(dsn, **settings)
    return str(caught.value)


# --- hosts --------------------------------------------------------------------------------------------------


HOSTS: list[tuple[dict[str, Any], list[Host]]] = [
    ({}, [Host(name, 5432) for name in DEFAULT_HOSTS]),
    ({"port": 5433}, [Host(name, 5433) for name in DEFAULT_HOSTS]),
    ({"host": "a"}, [Host("a", 5432)]),
    ({"host": "a,b"}, [Host("a", 5432), Host("b", 5432)]),
    ({"host": ["a", "b"]}, [Host("a", 5432), Host("b", 5432)]),
    ({"host": ["a", "b"], "port": 5433}, [Host("a", 5433), Host("b", 5433)]),
    ({"host": ["a", "b"], "port": [1, 2]}, [Host("a", 1), Host("b", 2)]),
    ({"dsn": "postgresql://a,b:5433"}, [Host("a", 5432), Host("b", 5433)]),
    ({"dsn": "postgresql://a:5433", "host": "b"}, [Host("b", 5432)]),
    ({"dsn": "postgresql://a:5433", "port": 5434}, [Host("a", 5434)]),
    ({"dsn": "host=a,b port=1,2"}, [Host("a", 1), Host("b", 2)]),
    ({"dsn": "host=/run port=5433"}, [Host("/run", 5433)]),
    ({"dsn": "port=5433", "environment": {"PGHOST": "e", "PGPORT": "1"}}, [Host("e", 5433)]),
    ({"environment": {"PGHOST": "e,f", "PGPORT": "1,2"}}, [Host("e", 1), Host("f", 2)]),
    ({"host": "a", "environment": {"PGHOST": "e", "PGPORT": "1"}}, [Host("a", 1)]),
    ({"hostaddr": "10.0.0.1"}, [Host("10.0.0.1", 5432, "10.0.0.1")]),
    ({"host": "a,b", "hostaddr": "10.0.0.1,10.0.0.2"}, [Host("a", 5432, "10.0.0.1"), Host("b", 5432, "10.0.0.2")]),
    ({"dsn": "host='a,,b'"}, [Host("a", 5432), Host("localhost", 5432), Host("b", 5432)]),
]


@pytest.mark.parametrize(("given", "expected"), HOSTS)
def test_hosts_and_ports_are_matched(given: dict[str, Any], expected: list[Host]) -> None:
    assert found(**given).hosts == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": ["a", "b"], "port": [1, 2, 3]}, "3 ports cannot be matched to 2 hosts"),
        ({"host": "a", "port": [1, 2]}, "2 ports cannot be matched to 1 hosts"),
        ({"host": "a,b", "hostaddr": "10.0.0.1"}, "1 hostaddr cannot be matched to 2 hosts"),
        ({"host": "a", "port": 0}, "ports are expected to be numbers from 1 to 65535"),
        ({"host": "a", "port": 65536}, "ports are expected to be numbers from 1 to 65535"),
        ({"dsn": "postgresql://a:x"}, "ports are expected to be numbers"),
        ({"dsn": "port=²"}, "ports are expected to be numbers"),
    ],
)
def test_hosts_and_ports_that_do_not_match_are_refused(given: dict[str, Any], words: str) -> None:
    assert words in refused(**given)


def test_a_unix_socket_is_told_from_a_host() -> None:
    assert Host("/run", 5432).is_socket
    assert not Host("run", 5432).is_socket
    assert str(Host("run", 5432)) == "run:5432"


# --- who counts more ----------------------------------------------------------------------------------------


def test_settings_count_more_than_the_dsn_and_that_more_than_the_service(tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.write_text("[s]\nhost=s\nuser=s\npassword=s\ndatabase=s\nsearch_path=s\n")
    given = found("postgresql://d@d/?service=s", user="u", servicefile=str(services))
    assert given.hosts == [Host("d", 5432)]
    assert [given.arguments[name] for name in ("user", "password", "database")] == ["u", "s", "s"]
    assert given.arguments["server_settings"] == {"search_path": "s", "application_name": "pgactor"}


def test_a_service_may_be_named_by_the_environment(tmp_path: Path) -> None:
    services = tmp_path / "services"
    services.write_text("[s]\nhost=s\nport=1\n")
    environment = {"PGSERVICE": "s", "PGSERVICEFILE": str(services), "PGHOST": "e"}
    assert found(environment=environment).hosts == [Host("s", 1)]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), ("x", "is no file of services"), ("[other]\nhost=h", "'s' is not in")],
)
def test_a_service_that_is_not_there_is_refused(content: str | None, words: str, tmp_path: Path) -> None:
    services = tmp_path / "services"
    if content is not None:
        services.write_text(content)
    assert words in refused(service="s", servicefile=str(services))


# --- what asyncpg is told -----------------------------------------------------------------------------------


def test_options_of_libpqs_are_no_settings_of_the_server() -> None:
    options = {
        "connect_timeout": "3",
        "keepalives": "1",
        "keepalives_idle": "7",
        "keepalives_interval": "8",
        "keepalives_count": "9",
        "tcp_user_timeout": "1500",
        "load_balance_hosts": "random",
        "channel_binding": "prefer",
        "gssencmode": "disable",
        "target_session_attrs": "read-write",
        "client_encoding": "auto",
        "fallback_application_name": "fallback",
        "search_path": "s",
        "options": "-c jit=off",
    }
    given = found("postgresql://h?" + "&".join(f"{name}={value}" for name, value in options.items()))
    assert given.arguments["server_settings"] == {
        "search_path": "s",
        "options": "-c jit=off",
        "application_name": "fallback",
    }
    assert given.address_seconds == 3.0
    assert given.seconds is None
    assert given.shuffled
    assert given.target == "read-write"
    assert not {"dsn", "host", "port", "timeout", "target_session_attrs"} & given.arguments.keys()


NAMES: list[tuple[dict[str, Any], str]] = [
    ({}, "pgactor"),
    ({"application_name": "a"}, "a"),
    ({"dsn": "application_name=d"}, "d"),
    ({"dsn": "application_name=d", "application_name": "a"}, "a"),
    ({"dsn": "application_name=d", "server_settings": {"application_name": "s"}}, "s"),
    ({"environment": {"PGAPPNAME": "e"}}, "e"),
]


@pytest.mark.parametrize(("given", "name"), NAMES)
def test_postgresql_is_told_who_connects(given: dict[str, Any], name: str) -> None:
    assert found(**given).arguments["server_settings"]["application_name"] == name


@pytest.mark.parametrize(
    ("given", "seconds", "address_seconds"),
    [
        ({}, DEFAULT_CONNECT_SECONDS, None),
        ({"timeout": 3.0}, 3.0, None),
        ({"connect_timeout": 2.5}, None, 2.5),
        ({"connect_timeout": 0}, DEFAULT_CONNECT_SECONDS, None),
        ({"connect_timeout": -1}, DEFAULT_CONNECT_SECONDS, None),
        ({"connect_timeout": 2, "timeout": 3.0}, 3.0, 2.0),
        ({"dsn": "connect_timeout=2"}, None, 2.0),
        ({"environment": {"PGCONNECT_TIMEOUT": "2"}}, None, 2.0),
    ],
)
def test_a_time_limit_is_for_the_whole_or_for_each_address(
    given: dict[str, Any], seconds: float | None, address_seconds: float | None
) -> None:
    assert (found(**given).seconds, found(**given).address_seconds) == (seconds, address_seconds)


KEEPALIVES: list[tuple[str, dict[str, int]]] = [
    ("", {"SO_KEEPALIVE": 1}),
    ("keepalives=1", {"SO_KEEPALIVE": 1}),
    ("keepalives=0", {}),
    ("keepalives=0 keepalives_idle=7 tcp_user_timeout=1500", {"TCP_USER_TIMEOUT": 1500}),
    (
        "keepalives_idle=7 keepalives_interval=0.5 keepalives_count=3",
        {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 7, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3},
    ),
]


@pytest.mark.parametrize(("dsn", "expected"), KEEPALIVES)
def test_keepalives_are_options_of_the_socket(dsn: str, expected: dict[str, int]) -> None:
    numbers = {getattr(socket, name): value for name, value in {**expected, "TCP_NODELAY": 1}.items()}
    assert {option: value for _, option, value in found(dsn).socket_options} == numbers


def test_an_option_that_the_system_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    assert len(found("tcp_user_timeout=1").socket_options) == len(found("").socket_options)


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("connect_timeout=soon", "connect_timeout is expected to be a number of seconds; got 'soon'"),
        ("keepalives=2", "keepalives is expected to be 0 or 1; got '2'"),
        ("keepalives_idle=x", "keepalives_idle is expected to be a number, greater or equal to zero; got 'x'"),
        ("tcp_user_timeout=-1", "tcp_user_timeout is expected to be a number, greater or equal to zero; got '-1'"),
        ("keepalives_count=inf", "keepalives_count is expected to be a number"),
        ("target_session_attrs=best", "target_session_attrs is expected to be one of any, primary, standby"),
        ("load_balance_hosts=on", "load_balance_hosts is expected to be one of disable, random; got 'on'"),
        ("channel_binding=require", "channel_binding=require cannot be kept to"),
        ("gssencmode=require", "gssencmode=require cannot be kept to"),
        ("require_auth=scram-sha-256", "require_auth=scram-sha-256 cannot be kept to"),
        ("sslmode=perhaps", "sslmode is expected to be one of disable, allow"),
    ],
)
def test_an_option_that_cannot_be_is_refused(dsn: str, words: str) -> None:
    assert words in refused(dsn)


# --- certificates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_to_verify_without_a_root_certificate_is_refused(mode: str) -> None:
    for given in ({"sslmode": mode}, {"ssl": mode}, {"dsn": f"sslmode={mode}"}, {"environment": {"PGSSLMODE": mode}}):
        assert f"sslmode={mode} needs the certificates" in refused(**given)


def test_the_users_own_root_certificate_will_do(tmp_path: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert found(sslmode="verify-full", environment={"HOME": str(tmp_path)}).arguments["ssl"] == "verify-full"


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert"])
def test_certificates_that_cannot_be_read_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.crt"
    given: dict[str, Any] = {name: str(path)}
    assert f"{path}: No such file or directory" in refused(**given)
    path.write_text("no certificate")
    assert "PEM" in refused(**given)
    assert found(**given, sslmode="disable").arguments["ssl"] == "disable"


def test_the_systems_certificates_may_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ssl.get_default_verify_paths()
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
    assert "this system keeps no file" in refused(sslrootcert="system")
    if paths.cafile is not None and os.access(paths.cafile, os.R_OK):
        monkeypatch.undo()
        given = found(sslrootcert="system").arguments
        assert given["ssl"] == "verify-full"
        assert given["dsn"].startswith("postgresql://?sslrootcert=%2F")


def test_ssl_may_be_a_switch() -> None:
    assert found(ssl=False).arguments["ssl"] is False
    assert found(ssl=True).arguments["ssl"] is True
    assert "ssl" not in found().arguments
    assert "two names" in refused(ssl="require", sslmode="require")
    assert "two names" in refused(ssl=True, sslmode="require")
    assert "ssl = true leaves sslcert unused" in refused("sslcert=/x", ssl=True)
