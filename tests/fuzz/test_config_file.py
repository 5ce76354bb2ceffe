"""A configuration file of any shape: settings that a supervisor can be made of, or an error that names the file and
what in it is wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from pgactor.actors.destination import find
from pgactor.actors.supervisor import _gateway
from pgactor.actors.templates import Template
from pgactor.aliases import DURATIONS, OF_CONNECT, OF_POOL
from pgactor.config import Settings
from pgactor.config.connect import ConnectSettings
from pgactor.config.hooks import HookSettings
from pgactor.config.loading import load
from pgactor.config.pool import PoolSettings
from pgactor.config.tables import TemplateTable
from pgactor.core.pool import Pool
from pgactor.errors import ConfigError
from tests.fuzz.budget import budget

FOLDER = tempfile.TemporaryDirectory(prefix="pga-")
PATH = Path(FOLDER.name) / "pgactor.toml"
ENVIRONMENT = {"HOME": "/nowhere"}
TABLES: dict[str, type[msgspec.Struct]] = {
    "pool": PoolSettings,
    "connect": ConnectSettings,
    "hooks": HookSettings,
}
ALIASES = [
    *OF_CONNECT,
    *OF_POOL,
    "hosts",
    "ports",
    *(f"{name}_{unit}" for name in DURATIONS for unit in ("sec", "nanosec")),
]
STRUCTS: list[type[msgspec.Struct]] = [Settings, TemplateTable, *TABLES.values()]
NAMES = sorted({name for struct in STRUCTS for name in struct.__struct_fields__})


_SAID_OF = {"dsn": ("dsn", "port", "host"), "host": ("hosts",), "port": ("ports",), "hostaddr": ("hostaddr",)}
"""Other words for what is wrong with a setting."""


def written(value: Any) -> str:
    """The value in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)} = {written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return _text(value) if isinstance(value, str) else str(value).lower()


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
strings = texts | st.sampled_from(
    ["", "postgresql://u:secret@h/d", "postgresql://[::1", "host=a user='", "verify-full", "random", "ipc://", "\0",
     "ipc:///tmp/x", "tcp://127.0.0.1:1", "tcp://[::1]:99999", "module:function", "{user}", "on", "primary", "1", "%"]
)  # fmt: skip
numbers = (
    st.integers(-1, 100)
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([2**31, 2**63, 2**64, 10**4000])
    | st.floats()
)
scalars = st.booleans() | numbers | strings
values = st.recursive(
    scalars,
    lambda some: (
        st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(NAMES + ALIASES) | texts, some, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Tables whose keys are mostly known, with any values."""
    tree: dict[str, Any] = {}
    for name, struct in TABLES.items():
        if draw(st.booleans()):
            tree[name] = draw(_table(struct))
    for name in ("pools", "templates"):
        if draw(st.integers(0, 3)) == 0:
            tree[name] = draw(
                st.dictionaries(st.sampled_from(["a", "b-c", "default", "é", ""]), _table(TemplateTable), max_size=2)
            )
    for name in draw(st.lists(st.sampled_from(Settings.__struct_fields__) | texts, max_size=2)):
        tree[name] = draw(values)
    return tree


def _table(struct: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    known = st.sampled_from([*struct.__struct_fields__, *ALIASES])
    return st.dictionaries(known, values, max_size=3) | st.dictionaries(known | texts, values, max_size=2)


def judged(content: bytes) -> str | None:
    """What is wrong with this file, in words; None: nothing is, and a supervisor can be made by it."""
    PATH.write_bytes(content)
    try:
        settings = load(str(PATH), environment={})
    except ConfigError as error:
        return _without_its_name(str(error))
    try:
        tables = [*settings.pools.values(), *settings.templates.values()]
        for pool in (settings.pool, *tables):
            Pool(pool, epoch=1, random=Random(1)).start(0.0)
        for connect in (settings.connect, *(table.connecting(settings.connect) for table in tables)):
            find(connect, environment=ENVIRONMENT)
        for name, template in settings.templates.items():
            Template(name, template)
        for endpoint in settings.endpoints:
            _gateway(endpoint)
    except ConfigError as error:
        return str(error) or "nothing"
    return None


def _without_its_name(words: str) -> str:
    assert words.startswith(f"{PATH}: ")
    assert len(words) < 2000
    return words.removeprefix(f"{PATH}: ")


@budget(150)
@given(trees())
@example({"connect": {"connect_timeout_sec": 10**400}})
def test_tables_of_any_shape_are_settings_or_a_clear_error(tree: dict[str, Any]) -> None:
    judged("".join(f"{_text(name)} = {written(value)}\n" for name, value in tree.items()).encode())


@budget(150)
@given(st.sampled_from([(table, name) for table in TABLES for name in TABLES[table].__struct_fields__]), values)
@example(("pool", "max_size"), 10**12)
def test_a_wrong_value_is_refused_by_the_name_of_its_key(place: tuple[str, str], value: Any) -> None:
    table, name = place
    wrong = judged(f"[{table}]\n{name} = {written(value)}\n".encode())
    if wrong is not None:
        inner = set(value) if isinstance(value, dict) else set()
        known = {name, *{"max_size", "min_size"}} if table == "pool" else {name, *_SAID_OF.get(name, ())}
        assert any(each in wrong for each in known | inner), wrong


@budget(150)
@given(st.binary(max_size=60) | texts.map(str.encode))
def test_bytes_of_any_kind_are_settings_or_a_clear_error(content: bytes) -> None:
    judged(content)


GOOD = b"""endpoints = ["ipc:///tmp/a.sock"]
max_frame_bytes = 65536
[pool]
min_size = 1
max_size = 4
recycling = "clean"
[connect]
dsn = "postgresql://user@host:5433/database?sslmode=disable&connect_timeout=3"
server_settings = { jit = "off" }
[hooks]
init = "module:function"
[pools.replica]
dsn = "host=b port=1"
[templates.tenant]
dsn = "postgresql://host/{database}"
"""


@budget(200)
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 3), st.binary(max_size=3)), max_size=4))
def test_a_good_file_with_a_few_bytes_spoilt_is_settings_or_a_clear_error(
    changes: list[tuple[int, int, bytes]],
) -> None:
    content = bytearray(GOOD)
    for at, out, put in changes:
        content[at : at + out] = put
    judged(bytes(content))


def test_the_good_file_is_good() -> None:
    assert judged(GOOD) is None
