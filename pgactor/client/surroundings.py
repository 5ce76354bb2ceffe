"""What surrounds a request: the label and the deadline of the block that it is made in.

They are kept in a context variable, so each thread, asyncio task and greenlet has its own; a task starts with those
of whoever made it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from ..errors import PoolTimeout, RequestTimeout
from ..messages import Acquire, Batch, Execute, ExecuteMany, Fetch, FetchMany, Request
from ..messages.listening import Listen, Unlisten

LABEL_LENGTH = 200
"""How many characters of a label are sent."""

_ROUNDING_SECONDS = 0.05
"""So much before a deadline a request that is ended by it may end: the supervisor's clock is another one."""

T = TypeVar("T")


class Surroundings(NamedTuple):
    """label: of the requests made within; "": none. until: when they are to have ended, by the monotonic clock; None:
    at no certain time. seconds: how long the block that says so was given."""

    label: str = ""
    until: float | None = None
    seconds: float = 0.0

    def mark(self, request: Request) -> None:
        """Let the request carry the label, and wait no longer than there is time. Raises `RequestTimeout` if there is
        none."""
        if self.label and isinstance(request, Acquire | Execute | ExecuteMany | Fetch | FetchMany | Batch):
            request.label = self.label
        if self.until is not None and not isinstance(request, Listen | Unlisten):
            left = self.until - monotonic()
            if left <= 0:
                raise RequestTimeout(f"{self.in_words()} before the request was made; it was not run")
            if request.timeout is None or left < request.timeout:
                request.timeout = left

    def in_words(self) -> str:
        """That there is no time left, for an error's text."""
        return f"the deadline of the surrounding block ({self.seconds:g} s) ran out"

    def bounds(self, end: float) -> bool:
        """Whether the deadline is what ends a request at this time."""
        return self.until is not None and end >= self.until - _ROUNDING_SECONDS


surroundings: ContextVar[Surroundings | None] = ContextVar("pgactor_surroundings", default=None)
"""Those of the running code; None: there are none."""

_NONE = Surroundings()


class _Block(Generic[T]):
    """A block with a value of its own."""

    def __init__(self, kind: _Kind[T], value: T) -> None:
        self._kind = kind
        self._value = value
        self._before: list[object] = []

    def __enter__(self) -> None:
        self._before.append(self._kind.set(self._value))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kind.reset(self._before.pop())


class _Kind(ABC, Generic[T]):
    """One part of the surroundings, to be set for a block or by itself."""

    def __call__(self, value: T) -> _Block[T]:
        self._check(value)
        return _Block(self, value)

    @abstractmethod
    def set(self, value: T) -> object:
        """Set it from here on, and return what `reset` takes to have it as it was before."""

    @abstractmethod
    def reset(self, token: object) -> None:
        """Have it as it was before that `set`."""

    @abstractmethod
    def _check(self, value: T) -> None:
        """Raises TypeError or ValueError for what cannot be."""


class Label(_Kind[str]):
    """`with pgactor.label("nightly report"):` - what requests are made for, in the words of `pgactor status`, of
    warnings and of errors. The innermost block's holds; "" takes it away.

    Where there is no block to enter: `token = pgactor.label.set(text)`, and in the end `pgactor.label.reset(token)`.
    """

    def get(self) -> str:
        """The label that requests carry here; "": none."""
        return (surroundings.get() or _NONE).label

    def set(self, value: str) -> object:
        self._check(value)
        around = surroundings.get() or _NONE
        surroundings.set(around._replace(label=value[:LABEL_LENGTH]))
        return around.label

    def reset(self, token: object) -> None:
        if not isinstance(token, str):
            raise TypeError("pgactor.label.reset() is expected to be given what pgactor.label.set() returned")
        _store((surroundings.get() or _NONE)._replace(label=token))

    def _check(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a label is expected to be a str, not {type(value).__name__}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"a label is expected to be Unicode: {error}") from None


class Deadline(_Kind[float]):
    """`with pgactor.deadline(2.5):` - every request made within waits no longer than until so many seconds have
    passed since the block was entered, whatever its own timeout. Of blocks within each other the one that ends first
    holds. (A subscription has its own timeouts.)

    A request that is ended by it raises the error of its own timeout, which says so; one that is made later raises
    `RequestTimeout`, and is not sent. A transaction is rolled back all the same, for which there is always time.

    Where there is no block to enter: `token = pgactor.deadline.set(seconds)`, `pgactor.deadline.reset(token)`.
    """

    def remaining(self) -> float | None:
        """How many seconds there are left here, 0 or more; None: no deadline."""
        until = (surroundings.get() or _NONE).until
        return None if until is None else max(0.0, until - monotonic())

    def set(self, value: float) -> object:
        self._check(value)
        around = surroundings.get() or _NONE
        until = monotonic() + value
        if around.until is None or until < around.until:
            surroundings.set(around._replace(until=until, seconds=value))
        return around.until, around.seconds

    def reset(self, token: object) -> None:
        match token:
            case (float() | None as until, float() | int() as seconds):
                _store((surroundings.get() or _NONE)._replace(until=until, seconds=seconds))
            case _:
                raise TypeError(
                    "pgactor.deadline.reset() is expected to be given what pgactor.deadline.set() returned"
                )

    def _check(self, value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, float | int):
            raise TypeError(f"a deadline is expected to be a number of seconds, not {type(value).__name__}")
        if not value >= 0:
            raise ValueError(f"a deadline is expected to be greater or equal to zero, in seconds (got {value!r})")


label = Label()
deadline = Deadline()


def _store(around: Surroundings) -> None:
    surroundings.set(None if around == _NONE else around)


@contextmanager
def without_deadline() -> Iterator[None]:
    """For what is to be done even when there is no time left."""
    around = surroundings.get()
    if around is None or around.until is None:
        yield
        return
    surroundings.set(around._replace(until=None))
    try:
        yield
    finally:
        surroundings.set(around)


def too_late() -> RequestTimeout | None:
    """The error, if the deadline of the surrounding block has run out, for a transaction that was not committed."""
    around = surroundings.get()
    if around is None or around.until is None or monotonic() < around.until:
        return None
    return RequestTimeout(f"{around.in_words()} before the transaction was committed; it was rolled back")


def explained(error: BaseException) -> BaseException:
    """The error of a request; if it is that the surrounding deadline ran out, it says so."""
    around = surroundings.get()
    if around is not None and isinstance(error, RequestTimeout | PoolTimeout) and around.bounds(monotonic()):
        error.args = (f"{around.in_words()}: {error}",)
    return error
