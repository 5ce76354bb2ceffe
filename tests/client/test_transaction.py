"""Transactions, beside asyncpg's own: the same steps, the same SQL, the same refusals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import asyncpg
import pytest
from asyncpg.transaction import Transaction as AsyncpgTransaction

from pgactor.client.aiolease import AsyncLease
from pgactor.client.aiotransaction import AsyncTransaction
from pgactor.client.lease import Lease
from pgactor.client.steps import TransactionSteps
from pgactor.client.transaction import Transaction
from pgactor.messages import IsolationLevel

STEPS = ("start", "commit", "rollback")
ALL_STEPS = (*STEPS, "enter", "exit", "exit after an error")

Transcript = list[str]


class Failure(Exception):
    """What PostgreSQL says to a statement that fails."""


class Session:
    """What asyncpg's Transaction needs of a connection, and ours of a lease. failing: every statement does."""

    def __init__(self) -> None:
        self.transcript: Transcript = []
        self.failing = False
        self.in_transaction = False
        self.savepoints = 0
        # asyncpg's
        self._top_xact: object = None
        self._pool_release_ctr = 0
        self._protocol = self
        # ours
        self.outermost: TransactionSteps | None = None
        self.released = False

    def require_usable(self, kind: str, method: str) -> None:
        pass

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def is_closed(self) -> bool:
        return False

    def _get_unique_id(self, kind: str) -> str:
        self.savepoints += 1
        return f"pgactor_{kind}_{self.savepoints}"

    def run(self, sql: str) -> None:
        self.transcript.append(sql)
        if self.failing:
            raise Failure("the statement failed")
        self.in_transaction = sql.startswith("BEGIN") or (self.in_transaction and "SAVEPOINT" in sql.upper())


class AioSession(Session):
    async def execute(self, sql: str) -> None:
        self.run(sql)

    async def fetchval(self, sql: str) -> str:
        assert sql == "SHOW transaction_isolation;"
        return "read committed"


class BlockingSession(Session):
    def execute(self, sql: str) -> None:
        self.run(sql)

    def fetchval(self, sql: str) -> str:
        assert sql == "SHOW transaction_isolation;"
        return "read committed"


Kwargs = dict[str, Any]
PLAIN: Kwargs = {"isolation": None, "readonly": False, "deferrable": False}


def asyncpgs(session: AioSession, **given: Any) -> AsyncpgTransaction:
    return AsyncpgTransaction(cast(asyncpg.Connection, session), **{**PLAIN, **given})


def aio(session: AioSession, **given: Any) -> AsyncTransaction:
    return AsyncTransaction(cast(AsyncLease, session), **{**PLAIN, **given})


def blocking(session: BlockingSession, **given: Any) -> Transaction:
    return Transaction(cast(Lease, session), **{**PLAIN, **given})


async def take(transaction: Any, step: str) -> None:
    """Take one step, blocking or not."""
    error = Failure("in the block")
    is_blocking = isinstance(transaction, Transaction)
    dunder = "__{}__" if is_blocking else "__a{}__"
    methods: dict[str, Callable[[], Any]] = {
        **{name: getattr(transaction, name) for name in STEPS},
        "enter": getattr(transaction, dunder.format("enter")),
        "exit": lambda: getattr(transaction, dunder.format("exit"))(None, None, None),
        "exit after an error": lambda: getattr(transaction, dunder.format("exit"))(Failure, error, None),
    }
    result = methods[step]()
    if not is_blocking:
        await cast(Awaitable[None], result)


async def story(session: Session, steps: Iterable[tuple[Any, str, bool]]) -> Transcript:
    """What these steps run and raise: (transaction, step, whether its statement fails)."""
    for transaction, step, session.failing in steps:
        try:
            await take(transaction, step)
        except (asyncpg.InterfaceError, Failure) as error:
            session.transcript.append(f"{type(error).__name__}: {error}")
    return [text.replace("an `async with`", "a `with`") for text in session.transcript]


async def all_three(*plans: tuple[int, str, bool], options: tuple[Kwargs, ...] = (PLAIN,)) -> list[Transcript]:
    """The transcripts of the same steps of asyncpg, AsyncTransaction and Transaction. A plan's number says which
    transaction takes the step."""
    transcripts = []
    for make, kind in ((asyncpgs, AioSession), (aio, AioSession), (blocking, BlockingSession)):
        session = kind()
        transactions = [cast(Callable[..., Any], make)(session, **given) for given in options]
        transcripts.append(await story(session, [(transactions[n], step, fails) for n, step, fails in plans]))
    return transcripts


async def test_every_sequence_of_three_steps_is_as_in_asyncpg() -> None:
    choices = [(0, step, fails) for step in ALL_STEPS for fails in (False, True)]
    for plans in itertools.product(choices, repeat=3):
        theirs, ours, blocking = await all_three(*plans)
        assert ours == theirs, plans
        assert blocking == theirs, plans


async def test_every_sequence_of_five_steps_of_a_transaction_within_another_is_as_in_asyncpg() -> None:
    choices = [(number, step, False) for number in (0, 1) for step in STEPS]
    for plans in itertools.product(choices, repeat=4):
        theirs, ours, blocking = await all_three((0, "start", False), *plans, options=(PLAIN, PLAIN))
        assert ours == theirs, plans
        assert blocking == theirs, plans


async def test_a_failed_step_of_an_inner_transaction_is_as_in_asyncpg() -> None:
    choices = [(number, step, fails) for number in (0, 1) for step in STEPS for fails in (False, True)]
    for plans in itertools.product(choices, repeat=2):
        begin = ((0, "start", False), (1, "start", False))
        theirs, ours, blocking = await all_three(*begin, *plans, options=(PLAIN, PLAIN))
        assert ours == theirs, plans
        assert blocking == theirs, plans


@pytest.mark.parametrize("isolation", [None, "read_committed", "read_uncommitted", "repeatable_read", "serializable"])
@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("deferrable", [False, True])
async def test_begin_says_what_asyncpgs_says(isolation: str | None, readonly: bool, deferrable: bool) -> None:
    given = {"isolation": isolation, "readonly": readonly, "deferrable": deferrable}
    theirs, ours, blocking = await all_three((0, "start", False), options=(given,))
    assert ours == blocking == theirs
    assert theirs[0].startswith("BEGIN")


@pytest.mark.parametrize("outer", ["read_committed", "serializable"])
@pytest.mark.parametrize("inner", [None, "read_committed", "serializable"])
async def test_an_inner_isolation_level_must_be_the_outer_one_as_in_asyncpg(outer: str, inner: str | None) -> None:
    plans = ((0, "start", False), (1, "start", False), (1, "commit", False))
    options = ({"isolation": outer}, {"isolation": inner, "readonly": True})
    theirs, ours, blocking = await all_three(*plans, options=options)
    assert ours == blocking == theirs


async def test_an_inner_isolation_level_may_be_the_one_that_the_outer_has_by_default() -> None:
    plans = ((0, "start", False), (1, "start", False))
    theirs, ours, blocking = await all_three(*plans, options=(PLAIN, {"isolation": "read_committed"}))
    assert ours == blocking == theirs


async def test_a_transaction_that_was_begun_by_hand_is_refused_as_in_asyncpg() -> None:
    transcripts = []
    for make, kind in ((asyncpgs, AioSession), (aio, AioSession), (blocking, BlockingSession)):
        session = kind()
        session.in_transaction = True
        transaction = cast(Callable[..., Any], make)(session)
        transcripts.append(await story(session, [(transaction, "start", False)]))
    assert transcripts[0] == transcripts[1] == transcripts[2]
    assert "manually started" in transcripts[0][0]


def test_an_unknown_isolation_level_is_refused_as_in_asyncpg() -> None:
    texts = []
    for make, kind in ((asyncpgs, AioSession), (aio, AioSession), (blocking, BlockingSession)):
        with pytest.raises(ValueError) as caught:
            cast(Callable[..., Any], make)(kind(), isolation="chaos")
        head, _, tail = str(caught.value).partition("{")
        texts.append((head, sorted(tail.partition("}")[0].split(", ")), tail.partition("}")[2]))
    assert texts[0] == texts[1] == texts[2]


def test_a_transaction_whose_begin_failed_leaves_the_way_free_for_another() -> None:
    session = BlockingSession()
    session.failing = True
    with pytest.raises(Failure):
        blocking(session).start()
    session.failing = False
    blocking(session).start()
    assert session.transcript == ["BEGIN;", "BEGIN;"]


def test_an_interruption_counts_as_a_failed_step() -> None:
    class Interrupted(BlockingSession):
        def execute(self, sql: str) -> None:
            raise KeyboardInterrupt

    transaction = blocking(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        transaction.start()
    with pytest.raises(asyncpg.InterfaceError, match="in error state"):
        transaction.start()


def test_a_cancellation_counts_as_a_failed_step() -> None:
    class Cancelled(AioSession):
        async def execute(self, sql: str) -> None:
            raise asyncio.CancelledError

    async def cancelled() -> AsyncTransaction:
        transaction = aio(Cancelled())
        with pytest.raises(asyncio.CancelledError):
            await transaction.start()
        return transaction

    assert repr(asyncio.run(cancelled())) == "<Transaction in error state>"


def test_savepoints_have_names_of_their_own() -> None:
    session = BlockingSession()
    blocking(session).start()
    for _ in range(2):
        with blocking(session):
            pass
    assert session.transcript[1:] == [
        "SAVEPOINT pgactor_savepoint_1;",
        "RELEASE SAVEPOINT pgactor_savepoint_1;",
        "SAVEPOINT pgactor_savepoint_2;",
        "RELEASE SAVEPOINT pgactor_savepoint_2;",
    ]


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ((), "not yet started"),
        (("start",), "started"),
        (("start", "commit"), "already committed"),
        (("start", "rollback"), "already rolled back"),
    ],
)
def test_its_repr_tells_its_state(steps: tuple[str, ...], state: str) -> None:
    level: IsolationLevel = "serializable"
    transaction = blocking(BlockingSession(), isolation=level)
    for step in steps:
        getattr(transaction, step)()
    assert repr(transaction) == f"<Transaction {state}>"
