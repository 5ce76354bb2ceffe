"""An unexpected error in an actor of the supervisor: it begins anew, and nothing is lost but what it held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pgactor import AsyncClient, LeaseLost, OutcomeUnknown, PgactorError
from pgactor.actors import sessionlane
from pgactor.actors.administration import Administration
from pgactor.actors.backend import Backend
from pgactor.actors.conductor import Conductor
from pgactor.actors.dialing import Dialer
from pgactor.actors.dialogue import Dialogue
from pgactor.actors.hooks import Hooks
from pgactor.actors.ipc import IpcGateway, IpcPeer
from pgactor.actors.letting import Letting
from pgactor.actors.listener import Listener
from pgactor.actors.pipeline import Pipeline
from pgactor.actors.predecessor import Predecessor
from pgactor.actors.session import Session
from pgactor.actors.subscribers import Subscribers
from pgactor.actors.supervisor import Supervisor
from pgactor.client import operator
from pgactor.config.hooks import HookSettings
from pgactor.config.tables import PoolTable
from pgactor.core.operating import Operating
from pgactor.core.pool import Pool
from pgactor.core.request import Request
from tests.faults.inprocess import Breaks, in_process

SOON = 10.0
BUG = "a bug that the test has put there"


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    return Breaks(monkeypatch)


async def all_is_well(client: AsyncClient, *, faults: int) -> None:
    """Statements of both lanes, a lease, timers: the pool does all that it can, and so many errors were counted."""
    async with asyncio.timeout(SOON):
        assert await client.fetchval("select $1::int", 5) == 5
        assert await client.fetchval("select '1 day'::interval * $1::int", 2) is not None
        async with client.acquire() as lease, lease.transaction():
            assert await lease.fetchval("select 6") == 6
        with pytest.raises(PgactorError):
            await client.fetchval("select pg_sleep(9)", timeout=0.05)
        assert (await client.status()).faults == faults


async def test_a_backend_that_meets_a_bug_is_closed_and_another_opened(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    breaks.once(Session, "quiet")  # it comes to rest after a statement of several
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        held = await client.acquire()
        pid = await held.fetchval("select pg_backend_pid()")
        with pytest.raises(Exception, match="invalid input"):
            await client.fetchval("select $1::interval", "nonsense")
        await all_is_well(client, faults=breaks.happened)
        assert await held.fetchval("select pg_backend_pid()") == pid, "another's session is gone, too"
        held.release()
        assert (await client.status()).counters["connections_lost"] == breaks.happened == 1
    assert BUG in caplog.text


async def test_a_backend_whose_task_is_cancelled_by_a_bug_is_replaced(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    breaks.once(Session, "execute", lambda sql, *_: "fails" in sql, error=asyncio.CancelledError)
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        async with asyncio.timeout(SOON):
            with pytest.raises(OutcomeUnknown):
                await client.execute("select 'fails'::text, '1 day'::interval; select 2")
        assert breaks.happened == 1
        await all_is_well(client, faults=0)


async def test_a_backend_whose_opening_is_cancelled_by_a_bug_is_opened_again(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    breaks.once(Dialer, "open", error=asyncio.CancelledError)
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        await all_is_well(client, faults=0)
    assert breaks.happened == 1


async def test_a_backend_that_cannot_begin_is_closed_and_its_request_ends(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    breaks.once(Backend, "run")
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        async with asyncio.timeout(SOON):
            with pytest.raises(OutcomeUnknown, match=BUG):
                await client.fetchval("select 1")
        await all_is_well(client, faults=1)
    assert "backend" in caplog.text


async def test_a_lease_whose_backend_cannot_be_let_is_refused(dsn: str, short_tmp: Path, breaks: Breaks) -> None:
    breaks.once(Backend, "let")
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        async with asyncio.timeout(SOON):
            with pytest.raises(RuntimeError, match=BUG):
                await client.acquire()
        await all_is_well(client, faults=1)


async def test_a_statement_lane_that_meets_a_bug_loses_what_was_on_its_connection(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        in_process(dsn, short_tmp, pool={"statement_lane": "on"}) as supervisor,
        AsyncClient(supervisor.endpoints[0]) as client,
    ):
        await client.fetchval("select 1")
        held = await client.acquire()
        breaks.once(Pipeline, "succeeded")
        async with asyncio.timeout(SOON):
            ends = await asyncio.gather(
                *(client.fetchval("select $1::int", number) for number in range(8)), return_exceptions=True
            )
        for number, end in enumerate(ends):
            assert end == number or isinstance(end, OutcomeUnknown)
        assert any(isinstance(end, OutcomeUnknown) for end in ends)
        assert await held.fetchval("select 3") == 3
        held.release()
        await all_is_well(client, faults=1)
    assert "is cut" in caplog.text
    assert BUG in caplog.text


@pytest.mark.parametrize("name", ["tick", "came_back", "finished", "release", "submit", "opened", "next_deadline"])
async def test_a_pool_whose_brain_meets_a_bug_begins_anew_and_others_do_not(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    lane = {"statement_lane": "on"} if name == "came_back" else {}  # no other lane calls it
    settings: dict[str, Any] = {"pools": {"other": PoolTable(max_size=2)}}
    async with in_process(dsn, short_tmp, pool=lane, **settings) as supervisor:
        endpoint = supervisor.endpoints[0]
        async with AsyncClient(endpoint) as client, AsyncClient(endpoint, pool="other") as other:
            await client.fetchval("select 1")
            before = (await client.status()).epoch
            elsewhere = await other.acquire()
            held = await client.acquire()
            breaks.once(Pool, name, only=supervisor._pools.conductors["default"].pool)
            async with asyncio.timeout(SOON):
                while not breaks.happened:
                    await asyncio.gather(
                        client.fetchval("select pg_sleep(9)", timeout=0.05),
                        client.fetchval("select 1"),
                        client.execute("select '1 day'::interval; select 1"),
                        client.expire_connections(),
                        use_a_lease(client),
                        return_exceptions=True,
                    )
                while (await client.status()).epoch == before:
                    await asyncio.sleep(0)
            with pytest.raises(LeaseLost):
                await held.fetchval("select 1")
            await all_is_well(client, faults=breaks.happened)
            assert await elsewhere.fetchval("select 4") == 4, "the other pool has lost a lease"
            elsewhere.release()
    assert "pool default begins anew" in caplog.text
    assert BUG in caplog.text


async def test_a_pool_that_begins_anew_is_paused_as_before_and_operators_are_heard(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        endpoint = supervisor.endpoints[0]
        before = await client.status()
        await asyncio.to_thread(operator.pause, endpoint, None, SOON, connect_timeout=SOON)
        supervisor._pools.lend({"default": 3})
        breaks.once(Pool, "submit", only=supervisor._pools.conductors["default"].pool)
        with pytest.raises(PgactorError):
            await client.fetchval("select 1")
        async with asyncio.timeout(SOON):
            while (after := await client.status()).epoch == before.epoch:
                await asyncio.sleep(0)
            assert after.paused
            waiting = [asyncio.ensure_future(client.fetchval("select pg_backend_pid()")) for _ in range(8)]
            await asyncio.to_thread(operator.resume, endpoint, None, connect_timeout=SOON)
            assert len(set(await asyncio.gather(*waiting))) == 1, "another supervisor has the other connections"
            assert (await client.status()).size == 1


async def test_a_pool_whose_brain_meets_a_bug_as_it_is_operated_begins_anew(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        before = (await client.status()).epoch
        breaks.once(Operating, "resume")
        with pytest.raises(PgactorError):
            await asyncio.to_thread(operator.resume, supervisor.endpoints[0], None, connect_timeout=SOON)
        async with asyncio.timeout(SOON):
            while (await client.status()).epoch == before:
                await asyncio.sleep(0)
        await all_is_well(client, faults=1)


async def test_a_pool_whose_brain_meets_a_bug_in_a_hand_over_ends_at_once(
    dsn: str, short_tmp: Path, breaks: Breaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        held = await client.acquire()
        conductor = supervisor._pools.conductors["default"]
        told: list[int] = []
        supervisor._pools.hand_over(lambda _, kept: told.append(kept))
        assert told == [1]
        breaks.once(Pool, "release", only=conductor.pool)
        Breaks(monkeypatch).once(Pool, "lost", only=conductor.pool)
        held.release()
        async with asyncio.timeout(SOON):
            await conductor.handed_over()
        assert told[-1] == 0
        assert supervisor._pools.conductors["default"] is conductor, "it serves again"


async def test_a_lease_whose_setup_hook_is_cancelled_by_a_bug_is_answered(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    hooks = HookSettings(setup="tests.faults.test_supervisor_actors:do_nothing")
    breaks.once(Hooks, "prepare", error=asyncio.CancelledError)
    async with in_process(dsn, short_tmp, hooks=hooks) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        async with asyncio.timeout(SOON):
            with pytest.raises(LeaseLost):
                await client.acquire()
        assert breaks.happened == 1
        assert not supervisor._pools.conductors["default"]._outcomes._setting_up
        await all_is_well(client, faults=0)


async def do_nothing(_: object) -> None:
    """A hook."""


async def use_a_lease(client: AsyncClient) -> None:
    async with client.acquire(timeout=1) as lease:
        await lease.fetchval("select 1")


async def test_a_listener_that_meets_a_bug_begins_anew_and_tells_a_gap(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    await heard_again(dsn, short_tmp, lambda: breaks.once(Listener, "_hear"))
    assert breaks.happened == 1
    assert BUG in caplog.text


async def test_a_listener_whose_task_is_cancelled_by_a_bug_begins_anew(
    dsn: str, short_tmp: Path, breaks: Breaks
) -> None:
    await heard_again(dsn, short_tmp, lambda: breaks.once(Listener, "_run", error=asyncio.CancelledError))
    assert breaks.happened == 1


async def heard_again(dsn: str, folder: Path, break_it: Callable[[], None]) -> None:
    """Someone who listens hears again, and is told a gap, after the listener was broken at the next channel."""
    async with (
        asyncio.timeout(SOON),
        in_process(dsn, folder) as supervisor,
        AsyncClient(supervisor.endpoints[0]) as client,
        client.listen("first") as notes,
    ):
        await client.notify("first", "one")
        assert (await anext(notes)).payload == "one"
        break_it()
        async with client.listen("second") as others:
            assert (await anext(notes)).gap
            await client.notify("first", "two")
            await client.notify("second", "three")
            assert (await anext(notes)).payload == "two"
            assert (await anext(others)).payload == "three"


async def test_a_notification_that_cannot_be_delivered_is_a_gap(dsn: str, short_tmp: Path, breaks: Breaks) -> None:
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        async with asyncio.timeout(SOON), client.listen("orders") as notes:
            breaks.once(Subscribers, "_deliver")
            await client.notify("orders", "one")
            assert (await anext(notes)).gap
            await client.notify("orders", "two")
            assert (await anext(notes)).payload == "two"
        assert (await client.status()).faults == 1


async def test_a_result_whose_streaming_meets_a_bug_is_an_error_of_that_request_alone(
    dsn: str, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> bytes:
        raise RuntimeError(BUG)

    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        sql = "select g, '1 day'::interval from generate_series(1, 1000) g"
        with monkeypatch.context() as patch:
            patch.setattr(sessionlane, "pass_on", broken)
            with pytest.raises(RuntimeError, match=BUG):
                await client.fetch(sql)
        assert len(await client.fetch(sql)) == 1000
        await all_is_well(client, faults=0)


async def test_an_administrative_request_that_meets_a_bug_is_refused_and_costs_nothing_else(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    breaks.once(Administration, "_check")
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        held = await client.acquire()
        with pytest.raises(RuntimeError, match=BUG):
            await client.resize(3)
        await client.resize(3)
        assert await held.fetchval("select 1") == 1
        held.release()
        await all_is_well(client, faults=1)
    assert "Resize" in caplog.text


@pytest.mark.parametrize(("owner", "name"), [(Letting, "acquire"), (IpcPeer, "write")])
async def test_a_link_that_meets_a_bug_is_ended_and_the_worker_makes_another(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture, owner: type, name: str
) -> None:
    async with in_process(dsn, short_tmp) as supervisor:
        endpoint = supervisor.endpoints[0]
        async with AsyncClient(endpoint) as client, AsyncClient(endpoint) as other:
            held = await other.acquire()
            await client.fetchval("select 1")
            running = asyncio.create_task(client.fetchval("select 1 from pg_sleep(0.2)"))
            await asyncio.sleep(0)
            breaks.once(owner, name)
            async with asyncio.timeout(SOON):
                with pytest.raises(OutcomeUnknown):
                    await client.acquire()
                with pytest.raises(OutcomeUnknown):
                    await running
            assert await held.fetchval("select 1") == 1, "another worker has lost its lease"
            held.release()
            await all_is_well(client, faults=1)
            assert breaks.happened == 1
    assert "link is ended" in caplog.text or "link of" in caplog.text
    assert BUG in caplog.text


async def test_what_was_decided_before_a_bug_is_carried_out(dsn: str, short_tmp: Path, breaks: Breaks) -> None:
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        await client.fetchval("select 1")
        breaks.once(Dialogue, "_statement", lambda _, __, message, ___: "breaks" in message.sql)
        async with asyncio.timeout(SOON):
            ends = await asyncio.gather(
                client.fetchval("select 1"), client.fetchval("select 'breaks'"), return_exceptions=True
            )
            assert all(end == 1 or isinstance(end, OutcomeUnknown) for end in ends)
            while (await client.status()).busy:
                await asyncio.sleep(0)
        await all_is_well(client, faults=1)


async def test_what_was_carried_out_before_a_bug_is_not_carried_out_again(
    dsn: str, short_tmp: Path, breaks: Breaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = Backend.run

    def watched(self: Backend, request: Request) -> None:
        ran.append("" if request.statement is None else request.statement.sql)
        run(self, request)

    monkeypatch.setattr(Backend, "run", watched)
    async with in_process(dsn, short_tmp) as supervisor, AsyncClient(supervisor.endpoints[0]) as client:
        await client.fetchval("select 1")
        breaks.once(Pool, "next_deadline")  # which is asked when all has been carried out
        await asyncio.gather(client.fetchval("select 2", timeout=5), client.status(), return_exceptions=True)
        assert breaks.happened == 1
        await all_is_well(client, faults=1)
    assert ran.count("select 2") == 1


async def test_a_hand_over_that_meets_a_bug_ends_and_the_other_supervisor_has_all(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    orders: asyncio.Queue[int | None] = asyncio.Queue()
    async with in_process(dsn, short_tmp, order=orders.put_nowait) as old:
        async with AsyncClient(old.endpoints[0]) as client:
            await all_is_well(client, faults=0)
        breaks.once(Conductor, "handed_over")
        new = Supervisor(old.settings)
        await new.start(take_over=True)
        try:
            async with asyncio.timeout(SOON):
                assert await orders.get() is None, "it is to end"
            await old.stop(seconds=0)
            async with AsyncClient(new.endpoints[0]) as client:
                assert await client.fetchval("select 1", timeout=SOON) == 1
                assert (await client.status()).faults == breaks.happened == 1
        finally:
            await new.stop(seconds=0)
    assert "the hand-over has failed" in caplog.text
    assert BUG in caplog.text


async def test_a_bug_while_the_endpoints_are_claimed_again_is_told(
    dsn: str, short_tmp: Path, breaks: Breaks, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process(dsn, short_tmp) as old:
        breaks.once(IpcGateway, "claim_again")
        new = await Predecessor.find(old.endpoints)
        assert new is not None
        new.close()
        async with asyncio.timeout(SOON), AsyncClient(old.endpoints[0]) as client:
            while BUG not in caplog.text:
                await client.fetchval("select 1")
            assert (await client.status()).faults == breaks.happened == 1
