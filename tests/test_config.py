"""Settings: where they come from, and what is said of wrong ones."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from pgactor.config import Settings
from pgactor.config.connect import ASYNCPGS_ARGUMENTS, ConnectSettings
from pgactor.config.loading import load
from pgactor.config.monitor import address_of
from pgactor.config.pool import PoolSettings
from pgactor.config.tables import PoolTable
from pgactor.endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE
from pgactor.errors import ConfigError

NOT_IN_A_FILE = {"loop", "connection_class", "record_class"}
"""asyncpg.connect's arguments that are Python objects."""

OUR_OWN_DEFAULTS = {
    "timeout": "an application waits for its connections: 60 seconds are too long",
    "statement_cache_size": "a pooled session lives long and serves many workers",
    "max_cached_statement_lifetime": "a pooled session lives long and serves many workers",
}
"""Where ConnectSettings' defaults differ from asyncpg's, and why."""


def read(folder: Path, text: str, **environment: str) -> Settings:
    """The settings of a file with this text."""
    path = folder / "pgactor.toml"
    path.write_text(text, encoding="utf-8")
    return load(str(path), environment=environment)


def refused(folder: Path, text: str) -> str:
    """What is said of a file with this text, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    name, colon, words = str(caught.value).partition(": ")
    assert name == str(folder / "pgactor.toml")
    assert colon
    return words


# --- where settings come from -------------------------------------------------------------------------------


def test_without_anything_there_are_defaults() -> None:
    settings = load(environment={})
    assert settings == Settings()
    assert settings.endpoints == [DEFAULT_ENDPOINT]
    assert (settings.pool.min_size, settings.pool.max_size) == (1, 10)
    assert settings.connect.dsn is None
    assert settings.embedded is None


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        endpoints = ["ipc:///tmp/a.sock", "tcp://127.0.0.1:5000"]
        max_frame_bytes = 2048
        [pool]
        max_size = 4
        max_hold_seconds = 60
        [connect]
        host = ["a", "b"]
        port = [5432, 5433]
        server_settings = { application_name = "x" }
        """,
    )
    assert settings.endpoints == ["ipc:///tmp/a.sock", "tcp://127.0.0.1:5000"]
    assert settings.max_frame_bytes == 2048
    assert settings.pool == PoolSettings(max_size=4, max_hold_seconds=60.0)
    assert settings.connect.arguments()["host"] == ["a", "b"]
    assert settings.connect.arguments()["port"] == [5432, 5433]
    assert settings.connect.arguments()["server_settings"] == {"application_name": "x"}


def test_the_environment_is_stronger_than_the_file(tmp_path: Path) -> None:
    text = 'endpoints = ["ipc:///a"]\n[pool]\nmin_size = 1\nmax_size = 2\n[connect]\ndsn = "postgresql://file"'
    settings = read(
        tmp_path,
        text,
        PGACTOR_ENDPOINT="ipc:///b",
        PGACTOR_DSN="postgresql://environment",
        PGACTOR_MIN_SIZE="3",
        PGACTOR_MAX_SIZE="7",
    )
    assert settings.endpoints == ["ipc:///b"]
    assert settings.connect.dsn == "postgresql://environment"
    assert (settings.pool.min_size, settings.pool.max_size) == (3, 7)


def test_an_empty_variable_counts_as_none(tmp_path: Path) -> None:
    settings = read(tmp_path, "[pool]\nmax_size = 2", PGACTOR_MAX_SIZE="", PGACTOR_ENDPOINT="")
    assert settings.pool.max_size == 2
    assert settings.endpoints == [DEFAULT_ENDPOINT]


def test_flags_are_stronger_than_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "pgactor.toml"
    path.write_text("[pool]\nmax_size = 2\nmin_size = 2")
    settings = load(
        str(path),
        environment={"PGACTOR_MAX_SIZE": "7", ENDPOINT_VARIABLE: "ipc:///b"},
        overrides={("pool", "max_size"): 9, ("endpoints",): ["ipc:///c"], ("connect", "dsn"): "postgresql://flag"},
    )
    assert (settings.pool.min_size, settings.pool.max_size) == (2, 9)
    assert settings.endpoints == ["ipc:///c"]
    assert settings.connect.dsn == "postgresql://flag"


def test_the_environment_is_the_processs_own_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGACTOR_MAX_SIZE", "5")
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    assert load().pool.max_size == 5


# --- wrong settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("[pool]\nmaxsize = 4", "maxsize", "max_size"),
        ("[pool]\nqueue_timeout = 4", "queue_timeout", "queue_timeout_seconds"),
        ("[connect]\npasword = 'x'", "pasword", "password"),
        ("endpoint = 'ipc:///x'", "endpoint", "endpoints"),
        ("[pol]\nmax_size = 4", "pol", "pool"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    text: str, wrong: str, nearest: str, tmp_path: Path
) -> None:
    words = refused(tmp_path, text)
    assert f"unknown field `{wrong}`" in words
    assert words.endswith(f"did you mean `{nearest}`?")


def test_a_key_that_resembles_none_is_refused_without_a_guess(tmp_path: Path) -> None:
    words = refused(tmp_path, "[pool]\nzzz = 1")
    assert "unknown field `zzz`" in words
    assert "did you mean" not in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[pool]\nmax_size = "many"', "Expected `int`, got `str` - at `$.pool.max_size`"),
        ("[pool]\nmax_size = 1.5", "Expected `int`, got `float` - at `$.pool.max_size`"),
        ("[pool]\nmax_size = true", "Expected `int`, got `bool` - at `$.pool.max_size`"),
        ("pool = 4", "Expected `object`, got `int` - at `$.pool`"),
        ('endpoints = "ipc:///x"', "Expected `array`, got `str` - at `$.endpoints`"),
        ("endpoints = [1]", "Expected `str`, got `int` - at `$.endpoints[0]`"),
        ("[connect]\nserver_settings = { a = [] }", "Expected `str`, got `array` - at `$.connect.server_settings"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_place(text: str, expected: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text).startswith(expected)


_POSITIVE = "{} is expected to be greater than zero"
_NOT_NEGATIVE = "{} is expected to be greater or equal to zero"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("max_size = 0", _POSITIVE),
        ("max_size = 262144", "{} is expected to be at most 262143, PostgreSQL's own limit"),
        ("min_size = -1", _NOT_NEGATIVE),
        ("max_size = 2\nmin_size = 3", "min_size is greater than max_size"),
        ("max_lifetime_jitter = 1.1", "{} is expected to be between 0 and 1"),
        ("max_lifetime_jitter = -0.1", "{} is expected to be between 0 and 1"),
        ("max_lifetime_jitter = nan", "{} is expected to be between 0 and 1"),
        ("max_waiting = 0", _POSITIVE),
        ("opens_at_once = 0", _POSITIVE),
        ("queue_timeout_seconds = 0", _POSITIVE),
        ("queue_timeout_seconds = nan", _POSITIVE),
        ("lease_ttl_seconds = 0", _POSITIVE),
        ("reset_timeout_seconds = 0", _POSITIVE),
        ("max_hold_seconds = 0", _POSITIVE),
        ("max_hold_seconds = -1", _POSITIVE),
        ("init_size = -1\nmin_size = 0", _NOT_NEGATIVE),
        ("init_size = 11", "init_size is greater than max_size"),
        ("init_size = 1\nmin_size = 2", "init_size is smaller than min_size"),
        ("max_queries = -1", _POSITIVE),
        ("max_inactive_connection_lifetime = -1", _NOT_NEGATIVE),
        ("max_lifetime_seconds = -0.5", _NOT_NEGATIVE),
        ("max_lifetime_seconds = nan", _NOT_NEGATIVE),
        ("reopen_backoff_seconds = -1", _NOT_NEGATIVE),
        ("reopen_backoff_max_seconds = -1", _NOT_NEGATIVE),
        ("database_grace_seconds = -1", _NOT_NEGATIVE),
        ("pipeline_depth = 0", _POSITIVE),
        ("pipeline_short_seconds = -1", _NOT_NEGATIVE),
        ("pipeline_stall_seconds = -1", _NOT_NEGATIVE),
        ("worker_window = -1", _NOT_NEGATIVE),
        ("lease_warning_seconds = -1", _NOT_NEGATIVE),
        ("listen_check_seconds = -1", _NOT_NEGATIVE),
        ("max_requests_per_worker = -1", _NOT_NEGATIVE),
        ("max_bytes_per_worker = -1", _NOT_NEGATIVE),
        ("max_leases_per_worker = -1", _NOT_NEGATIVE),
        ("lease_share = 1.1", "{} is expected to be between 0 and 1"),
        ("lease_share = -0.1", "{} is expected to be between 0 and 1"),
    ],
)
def test_a_setting_of_the_pool_that_cannot_be_is_refused(setting: str, words: str, tmp_path: Path) -> None:
    expected = words.format(setting.partition(" ")[0])
    assert refused(tmp_path, f"[pool]\n{setting}") == f"{expected} - at `$.pool`"


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("http://[::1]:9464/", ("::1", 9464)),
        ("metrics.example:80", ("metrics.example", 80)),
    ],
)
def test_a_metrics_endpoint_is_on_loopback_unless_it_says_where(endpoint: str, address: tuple[str, int]) -> None:
    assert address_of(endpoint) == address


@pytest.mark.parametrize("endpoint", ["9464", "https://x:1", "x", ":99999", "http://x:1/metrics", "u@x:1", ""])
def test_a_metrics_endpoint_that_is_none_is_refused(endpoint: str, tmp_path: Path) -> None:
    assert "metrics_endpoint is expected to be" in refused(tmp_path, f'metrics_endpoint = "{endpoint}"')


def test_every_complaint_of_the_pools_settings_is_tested_above() -> None:
    source = inspect.getsource(PoolSettings.__post_init__)
    names = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", source)) & set(PoolSettings.__struct_fields__)
    marks = test_a_setting_of_the_pool_that_cannot_be_is_refused.pytestmark  # type: ignore[attr-defined]
    tested = {line.partition(" ")[0] for mark in marks for setting, _ in mark.args[1] for line in setting.split("\n")}
    assert names == tested


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("endpoints = []", "endpoints is expected to name at least one endpoint"),
        ("max_frame_bytes = 1023", "max_frame_bytes is expected to be at least 1024"),
        ("max_unsent_bytes = 0", "max_unsent_bytes is expected to be at least 1024"),
        ("heartbeat_seconds = 0", "heartbeat_seconds is expected to be positive and less than silence_seconds"),
        ("heartbeat_seconds = 10", "heartbeat_seconds is expected to be positive and less than silence_seconds"),
        ("silence_seconds = nan", "heartbeat_seconds is expected to be positive and less than silence_seconds"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: str, words: str, tmp_path: Path) -> None:
    assert refused(tmp_path, setting).startswith(words)


@pytest.mark.parametrize("zero", ["max_queries", "max_lifetime_seconds", "max_inactive_connection_lifetime"])
def test_zero_means_never_where_it_is_allowed(zero: str, tmp_path: Path) -> None:
    assert getattr(read(tmp_path, f"[pool]\n{zero} = 0").pool, zero) == 0


def test_a_value_from_the_environment_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"settings: Expected `int`, got `str` - at `\$\.pool\.max_size`"):
        load(environment={"PGACTOR_MAX_SIZE": "many"})
    with pytest.raises(ConfigError, match="min_size is greater than max_size"):
        load(environment={"PGACTOR_MIN_SIZE": "20"})


def test_a_variable_for_what_the_file_has_no_table_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pgactor.toml"
    path.write_text("pool = 4")
    with pytest.raises(ConfigError, match=r"\[pool\] is expected to be a table"):
        load(str(path), environment={"PGACTOR_MAX_SIZE": "4"})


# --- files that cannot be read ------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    with pytest.raises(ConfigError) as caught:
        load(str(path), environment={})
    assert str(caught.value) == f"{path}: No such file or directory"


@pytest.mark.parametrize("content", [b"max_size = ", b"= 1", b"\xff\xfe", b"[pool]\n[pool]\n"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pgactor.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(str(path), environment={})
    assert str(caught.value).startswith(f"{path}: not valid TOML: ")


# --- asyncpg's arguments ------------------------------------------------------------------------------------


def test_every_argument_of_asyncpgs_connect_that_can_be_written_is_a_setting() -> None:
    theirs = set(inspect.signature(asyncpg.connect).parameters)
    assert set(ASYNCPGS_ARGUMENTS) == theirs - NOT_IN_A_FILE
    assert set(ConnectSettings.__struct_fields__) > set(ASYNCPGS_ARGUMENTS)
    assert theirs > NOT_IN_A_FILE


def test_defaults_are_asyncpgs_but_for_those_with_a_reason() -> None:
    differing = {
        name
        for name, parameter in inspect.signature(asyncpg.connect).parameters.items()
        if name not in NOT_IN_A_FILE and getattr(ConnectSettings(), name) != parameter.default
    }
    assert differing == set(OUR_OWN_DEFAULTS)


WRITTEN: dict[str, tuple[str, Any]] = {
    "dsn": ('"postgresql://h/d"', "postgresql://h/d"),
    "host": ('"h"', "h"),
    "port": ("5433", 5433),
    "user": ('"u"', "u"),
    "password": ('"p"', "p"),
    "passfile": ('"/pass"', "/pass"),
    "service": ('"s"', "s"),
    "servicefile": ('"/service"', "/service"),
    "database": ('"d"', "d"),
    "timeout": ("3", 3.0),
    "statement_cache_size": ("0", 0),
    "max_cached_statement_lifetime": ("60", 60),
    "max_cacheable_statement_size": ("0", 0),
    "command_timeout": ("1.5", 1.5),
    "ssl": ('"verify-full"', "verify-full"),
    "direct_tls": ("true", True),
    "server_settings": ('{ application_name = "x" }', {"application_name": "x"}),
    "target_session_attrs": ('"primary"', "primary"),
    "krbsrvname": ('"postgres"', "postgres"),
    "gsslib": ('"gssapi"', "gssapi"),
}


@pytest.mark.parametrize("name", ASYNCPGS_ARGUMENTS)
def test_each_of_them_reaches_asyncpg_as_it_was_written(name: str, tmp_path: Path) -> None:
    text, value = WRITTEN[name]
    found = read(tmp_path, f"[connect]\n{name} = {text}").connect.arguments()[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ('"require"', "require")])
def test_ssl_is_a_switch_or_a_mode(text: str, value: bool | str, tmp_path: Path) -> None:
    found = read(tmp_path, f"[connect]\nssl = {text}").connect.arguments()["ssl"]
    assert (type(found), found) == (type(value), value)


def test_what_is_not_said_is_left_to_asyncpg() -> None:
    assert set(ConnectSettings().arguments()) == {
        "timeout",
        "statement_cache_size",
        "max_cached_statement_lifetime",
        "max_cacheable_statement_size",
        "server_settings",
    }


@pytest.mark.parametrize(
    ("connect", "server_settings"),
    [
        ("", {"application_name": "pgactor"}),
        ('server_settings = { jit = "off" }', {"application_name": "pgactor", "jit": "off"}),
        ('server_settings = { application_name = "app" }', {"application_name": "app"}),
        ('dsn = "postgresql://h/d"', {"application_name": "pgactor"}),
        ('dsn = "postgresql://h/d?application_name=app"', None),
        ('dsn = "postgresql://h/d?application_name=app"\nserver_settings = { jit = "off" }', {"jit": "off"}),
    ],
)
def test_postgresql_is_told_who_connects_unless_somebody_else_says_so(
    connect: str, server_settings: dict[str, str] | None, tmp_path: Path
) -> None:
    arguments = read(tmp_path, f"[connect]\n{connect}").connect.arguments()
    assert arguments.get("server_settings") == server_settings


def test_settings_cannot_be_changed_afterwards() -> None:
    for settings, name in ((Settings(), "endpoints"), (PoolSettings(), "max_size"), (ConnectSettings(), "dsn")):
        with pytest.raises(AttributeError):
            setattr(settings, name, None)
    assert msgspec.structs.replace(PoolSettings(), max_size=3).max_size == 3


# --- several pools ------------------------------------------------------------------------------------------


def test_a_pool_with_a_dsn_of_its_own_takes_nothing_from_the_first() -> None:
    first = ConnectSettings(host="a", user="u", timeout=3)
    table = PoolTable(dsn="postgresql://b/d", connect=ConnectSettings(command_timeout=1))
    assert table.connecting(first) == ConnectSettings(dsn="postgresql://b/d", command_timeout=1)


def test_one_without_takes_what_it_does_not_say_itself() -> None:
    first = ConnectSettings(dsn="postgresql://a/d", user="u", timeout=3)
    table = PoolTable(connect=ConnectSettings(host="b", user="v"))
    assert table.connecting(first) == ConnectSettings(dsn="postgresql://a/d", host="b", user="v", timeout=3)


def test_other_libraries_names_of_settings_hold_for_every_pool(tmp_path: Path) -> None:
    tables = '[pools.a]\nmax_db_pool_size = 3\n[pools.a.connect]\nusername = "u"\n'
    settings = read(tmp_path, tables + '[templates.b.connect]\ndb_name = "{database}"\n')
    assert (settings.pools["a"].max_size, settings.pools["a"].connect.user) == (3, "u")
    assert settings.templates["b"].connect.database == "{database}"


def test_a_pool_of_another_size_keeps_its_init_size_as_far_as_it_can() -> None:
    pool = PoolSettings(min_size=1, init_size=3, max_size=5)
    assert [pool.resized(*sizes).initial_size for sizes in ((9, None), (2, None), (9, 6), (3, 1))] == [3, 2, 6, 3]
    assert PoolSettings(min_size=1).resized(9, 4).initial_size == 4


def test_variables_of_a_pool_are_named_after_it(tmp_path: Path) -> None:
    path = tmp_path / "pgactor.toml"
    path.write_text('[pools.read-only]\nmax_size = 2\n[templates.tenant]\ndsn = "x"\n')
    settings = load(
        str(path),
        environment={
            "PGACTOR_MAX_SIZE": "7",
            "PGACTOR_MAX_SIZE_READ_ONLY": "3",
            "PGACTOR_DSN_TENANT": "y",
            "PGACTOR_DSN_NEW": "z",
            "PGACTOR_MIN_SIZE_NEW": "2",
            "PGACTOR_MIN_SIZE_TENANT": "",
        },
    )
    assert (settings.pool.max_size, settings.pools["read-only"].max_size) == (7, 3)
    assert settings.templates["tenant"].dsn == "y"
    assert (settings.pools["new"].dsn, settings.pools["new"].min_size) == ("z", 2)


def test_a_variable_of_a_pool_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="PGACTOR_MAX_SIZE_REPLIKA: there is no pool 'replika'; PGACTOR_DSN_REPLIKA"
    ):
        load(environment={"PGACTOR_MAX_SIZE_REPLIKA": "3"})


def test_an_endpoint_with_a_pool_is_for_clients() -> None:
    with pytest.raises(ConfigError, match=r"\?pool=NAME is for clients"):
        load(environment={"PGACTOR_ENDPOINT": "ipc:///tmp/x?pool=a"})
