"""Asks one request after another, and judges what comes.

The same coroutines drive both clients: with the blocking one (`Blocking`) they never suspend.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from .judging import in_words, judge
from .ledger import Ledger, Outcome

HASTY = 0.012
"""The part of requests that get a short timeout, and of those that are cancelled."""

MAX_VIOLATIONS = 20
"""How many violations an asker remembers."""


@dataclass
class Answer:
    """What came for a request."""

    outcome: Outcome
    value: Any = None
    error: BaseException | None = None
    as_expected: bool = False
    """Whether it is the error that it had to be."""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome is Outcome.OK


@dataclass
class Shared:
    """What the askers of a process share. left: how many requests are still to be made. awake: how many of the askers
    ask at all now. cancels: whether requests can be cancelled. until: when to end, by the monotonic clock;
    where it is given, there is chaos meanwhile."""

    worker: int
    client: Any
    ledger: Ledger
    left: int
    awake: int
    cancels: bool
    until: float | None = None


class Asker:
    """One task, or one thread."""

    def __init__(self, shared: Shared, number: int, seed: str) -> None:
        self.shared = shared
        self.random = Random(seed)
        self.ledger = shared.ledger
        self.kind = ""
        self.counts: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[str] = Counter()
        self.violations: list[str] = []
        self.asked: tuple[float, str] | None = None
        """Since when what has been asked, while it is not answered."""
        self.deletable: list[int] = []
        self.number = number
        self._name = f"{shared.worker}.{number}"
        self._tags = 0

    def tag(self) -> str:
        """A text that no other request has."""
        self._tags += 1
        return f"{self._name}.{self._tags}"

    async def ask(
        self,
        method: str,
        *args: Any,
        on: Any = None,
        expected: type[BaseException] | None = None,
        calm: bool = False,
        timeout: float | None = None,
        **named: Any,
    ) -> Answer:
        """Call the method of the client, or of a lease or a transaction, and judge the error that it may end in.

        expected: the error that it must end in. calm: never with a short timeout, never cancelled.
        """
        hasty, cancelled = timeout is not None, False
        if timeout is None and not calm:
            dice = self.random.random()
            if dice < HASTY and method not in ("start", "commit", "rollback"):
                timeout, hasty = self.random.choice((0.0005, 0.003, 0.02, 0.1)), True
            elif HASTY <= dice < 2 * HASTY and self.shared.cancels:
                cancelled = True
        if timeout is not None:
            named["timeout"] = timeout
        self.shared.left -= 1
        self.counts[self.kind, "requests"] += 1
        self.asked = time.monotonic(), f"{method}{args!r:.300}"
        answer = Answer(Outcome.OK)
        try:
            call = getattr(self.shared.client if on is None else on, method)(*args, **named)
            answer.value = await (self._cancelled(call) if cancelled else call)
        except (Exception, asyncio.CancelledError) as error:
            answer.error = error
            self.errors[type(error).__name__] += 1
            leased = (
                on is not None or method == "executemany"
            )  # which takes a lease for what is more than one request
            chaos = self.shared.until is not None
            answer.outcome = judge(
                error, expected=expected, hasty=hasty, cancelled=cancelled, leased=leased, chaos=chaos
            )
            answer.as_expected = expected is not None and type(error) is expected
            if answer.outcome is Outcome.WRONG:
                wanted = "an answer" if expected is None else expected.__name__
                self._violation(f"{method}{args!r:.400} (timeout {timeout})", wanted, in_words(error))
        self.asked = None
        self.counts[self.kind, answer.outcome.value] += 1
        if answer.ok and expected is not None:
            self.wrong(answer, f"{method}{args!r:.400}", expected.__name__, answer.value)
        return answer

    def wrong(self, answer: Answer, asked: str, expected: object, got: object) -> None:
        """The answer is not what it must be."""
        if answer.outcome is not Outcome.WRONG:
            self.counts[self.kind, answer.outcome.value] -= 1
            self.counts[self.kind, Outcome.WRONG.value] += 1
            answer.outcome = Outcome.WRONG
        self._violation(asked, expected, got)

    def must(self, answer: Answer, asked: str, expected: object) -> bool:
        """Whether it is an answer; it must be this one."""
        if answer.ok and answer.value != expected:
            self.wrong(answer, asked, expected, answer.value)
            return False
        return answer.ok

    def _violation(self, asked: str, expected: object, got: object) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            when = time.strftime("%H:%M:%S")
            self.violations.append(
                f"{when} asker {self._name}, {self.kind}: {asked}\n"
                f"    expected {expected!s:.900}\n    got      {got!s:.900}"
            )

    async def _cancelled(self, call: Any) -> Any:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call)
        delay = self.random.choice((0.0, 0.001, 0.005, 0.03, 0.2)) * self.random.random()
        timer = loop.call_later(delay, task.cancel)
        try:
            return await task
        finally:
            timer.cancel()


class Blocking:
    """A blocking client, lease or transaction, with methods that are awaited."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._wrapped, name)

        async def call(*args: Any, **named: Any) -> Any:
            result = method(*args, **named)
            return Blocking(result) if name == "acquire" else result

        return call

    def transaction(self, **named: Any) -> Blocking:
        """Of a lease."""
        return Blocking(self._wrapped.transaction(**named))

    def release(self) -> None:
        """A lease."""
        self._wrapped.release()
