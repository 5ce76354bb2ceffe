"""Hooks for pools, asyncpg's and pgactor's alike. They write down their calls, and fail as they are told to.

Both happen in the folder named by $HOOKS_FOLDER: `calls` has a line for each call, and `orders` may say, as
`setup raise`, what one of them is to do.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import asyncpg


async def connect(*args: Any, **options: Any) -> Any:
    """As asyncpg.connect."""
    if await _called("connect") == "number":
        return 7
    if order() == ("connect", "plain"):
        return await asyncpg.connect(*args, **{**options, "connection_class": asyncpg.Connection})
    return await asyncpg.connect(*args, **options)


async def init(connection: Any) -> None:
    """Of each new connection."""
    if await _called("init", connection) == "codec":
        await connection.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=lambda text: text + "!")


async def set_text_codec(connection: Any) -> None:
    """Texts are written in angle brackets."""
    codec = {"encoder": lambda text: f"<{text}>".encode(), "decoder": bytes.decode, "format": "binary"}
    await connection.set_type_codec("text", schema="pg_catalog", **codec)


async def setup(connection: Any) -> None:
    """Before each use."""
    if await _called("setup", connection) == "transaction":
        await connection.execute("begin")
    await connection.execute(
        "select set_config('hooks.setup', coalesce(current_setting('hooks.setup', true), '') || 'x', false)"
    )


async def reset(connection: Any) -> None:
    """After each use."""
    await _called("reset", connection)


def give_order(folder: Path, text: str = "") -> None:
    """What a hook is to do from now on, as `setup raise`."""
    (folder / "orders").write_text(text)


def calls(folder: Path) -> list[str]:
    """The calls so far, each with its connection: 0 is the first that was met."""
    path = folder / "calls"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    pids = list(dict.fromkeys(pid for _, pid in lines if pid))
    return [f"{name} {pids.index(pid)}" if pid else name for name, pid in lines]


def order() -> tuple[str, str]:
    """Which hook is to do what."""
    path = Path(os.environ["HOOKS_FOLDER"]) / "orders"
    name, _, deed = (path.read_text() if path.exists() else "").partition(" ")
    return name, deed


async def _called(name: str, connection: Any = None) -> str:
    pid = 0 if connection is None else connection.get_server_pid()
    with (Path(os.environ["HOOKS_FOLDER"]) / "calls").open("a") as file:
        file.write(json.dumps([name, pid]) + "\n")
    who, deed = order()
    if who != name:
        return ""
    match deed:
        case "raise":
            raise ValueError(f"the {name} hook does not like it")
        case "sql":
            await connection.execute("select 1/0")
        case "hang":
            await asyncio.sleep(60)
        case "query":
            await connection.execute("select pg_sleep(60)")  # PostgreSQL goes on with it when the connection is cut
        case "cut":
            connection.terminate()
    return deed
