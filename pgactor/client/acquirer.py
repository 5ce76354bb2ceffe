"""Who acquires a lease: which line of the application's code, in which task, and inside of which other blocks.

*Inside.* Whoever acquires a lease in the `with` block of another one holds that until it has its answer: the frame
that entered the block is on the stack of the code that asks, and cannot leave the block before. That is how the
supervisor can tell a deadlock from mere waiting. Of a lease that was acquired without `with`, or whose block was
entered for somebody else (by an ExitStack, or a generator that is not running now), nothing is claimed: it may be
released by any task or thread. The stack is walked only while this link has a lease.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ..messages import Token

if TYPE_CHECKING:
    import asyncio

Entered = tuple[FrameType, "asyncio.Task[Any] | None"]
"""Which frame is inside of a block, and in which task."""

PATH_LENGTH = 160
"""How many characters of a file's path are told: its last ones."""

_NOBODYS = ("pgactor", "contextlib")
"""Packages whose lines say nothing of the application."""


class Enterable(Protocol):
    """A lease, as far as matters here."""

    token: Token
    entered: Entered | None


def place() -> str:
    """The line of the application's code that calls us: file, number, function."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOBODYS:
        frame = frame.f_back
    if frame is None:
        return ""
    code = frame.f_code
    path = code.co_filename[-PATH_LENGTH:].encode(errors="replace").decode()  # a name on disk may be no Unicode
    return f"{path}:{frame.f_lineno} in {code.co_qualname}"


def task_name(task: asyncio.Task[Any] | None) -> str:
    """The name that the task was given; "" if it has none but asyncio's own."""
    name = "" if task is None else task.get_name()
    return "" if name.startswith("Task-") and name[5:].isdigit() else name


def entering(task: asyncio.Task[Any] | None = None) -> Entered:
    """Who enters the block, to be called by the method that a `with` calls.

    Of a generator that is a context manager it is whoever enters that one: until he leaves it, it stands still.
    """
    frame = sys._getframe(2)
    while (caller := frame.f_back) is not None and caller.f_code in _MANAGERS and caller.f_back is not None:
        frame = caller.f_back
    return frame, task


def inside(leases: Iterable[Enterable], task: asyncio.Task[Any] | None = None) -> list[Token]:
    """Those of the leases whose blocks the running code is inside of."""
    entered = [(lease, *lease.entered) for lease in leases if lease.entered is not None]
    if not entered:
        return []
    stack = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        stack.add(id(frame))  # whose frame is on the stack is alive, so there is no other one by this id
        frame = frame.f_back
    return [lease.token for lease, block, its_task in entered if id(block) in stack and its_task is task]


@contextmanager
def _manager() -> Any:
    yield


@asynccontextmanager
async def _async_manager() -> Any:
    yield


_managers: tuple[AbstractContextManager[Any], AbstractAsyncContextManager[Any]] = _manager(), _async_manager()
_MANAGERS = {type(_managers[0]).__enter__.__code__, type(_managers[1]).__aenter__.__code__}
