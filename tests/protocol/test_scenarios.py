"""The stories of protocols/scenarios, played against core/ on a clock that only the story moves.

PostgreSQL does at once what it is told (open, reset, cancel, close), unless it pauses; a statement ends when the
story says so.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pgactor.core.lease import Lease, LeaseBusy
from pgactor.core.request import Kind, Request
from pgactor.core.roster import Worker
from pgactor.errors import LeaseError, PgactorError
from protocols import generate
from tests.fakes import Bench

STORIES = sorted((Path(generate.__file__).parent / "scenarios").glob("*.toml"))

KEYS = {
    "runs": {"sql", "as", "on", "timeout", "short"},
    "acquires": {"as", "ttl", "timeout"},
    "cancels": {"what"},
    "releases": {"what"},
    "beats": {"holds"},
    "leaves": set(),
    "finishes": {"what"},
    "drops": {"what"},
    "pauses": set(),
    "goes on": set(),
    "goes down": set(),
    "comes up": set(),
    "drains": set(),
    "terminates": set(),
    "expires": set(),
}
"""What a step must or may say, beside `at`, `who` and `does`."""


class Stage:
    """Where one story is played. asked: the requests by their names, or the code that they were refused with."""

    def __init__(self, story: dict[str, Any]) -> None:
        self.bench = Bench(**{"max_size": 1, "min_size": min(1, story["pool"].get("max_size", 1))} | story["pool"])
        self.began = self.bench.now
        self.limits: dict[str, float] = {
            name: float(each["silence_limit"]) for name, each in story.get("workers", {}).items()
        }
        self.workers: dict[str, Worker] = {}
        self.asked: dict[str, Request | str] = {}
        self.paused = False
        self.down = False
        self.bench.start()
        if not any(step.get("does") == "goes down" and step["at"] == 0 for step in story["steps"]):
            self.let_work()

    def play(self, step: dict[str, Any]) -> None:
        """One step of the story."""
        step = dict(step)
        self.wait_until(self.began + step.pop("at"))
        if "does" in step:
            self.act(step.pop("who"), step.pop("does"), step)
            self.let_work()
        else:
            self.look(**step)

    def wait_until(self, time: float) -> None:
        """Let time pass. What falls due is done, and PostgreSQL does its part, at its very moment."""
        bench = self.bench
        assert time >= bench.now, "stories are told in order"
        while (due := bench.pool.next_deadline()) is not None and due <= time:
            bench.advance(max(0.0, due - bench.now))
            self.let_work()
        bench.advance(time - bench.now)

    def let_work(self) -> None:
        """PostgreSQL does what it was told."""
        if self.paused:
            return
        while self.down and self.bench.opening():
            self.bench.fail_open()
        self.bench.settle()

    def act(self, who: str, does: str, step: dict[str, Any]) -> None:
        """Somebody does something."""
        assert step.keys() <= KEYS[does], f"{does} takes no {step.keys() - KEYS[does]}"
        bench = self.bench
        match who, does:
            case "postgres", "finishes":
                bench.finish(self.request(step["what"]))
            case "postgres", "drops":
                request = self.request(step["what"])
                outcome = bench.outcomes.get(request)
                holder = outcome.holder if isinstance(outcome, Lease) else request.holder
                assert holder is not None, f"{step['what']} has no connection"
                bench.cut(holder)
            case "postgres", "pauses" | "goes on":
                self.paused = does == "pauses"
            case "postgres", "goes down" | "comes up":
                self.down = does == "goes down"
            case "supervisor", "drains":
                bench.drain()
            case "supervisor", "terminates":
                bench.terminate()
            case "supervisor", "expires":
                bench.expire_connections()
            case _:
                self.work(self.worker(who), does, step)

    def work(self, worker: Worker, does: str, step: dict[str, Any]) -> None:
        """A worker does something."""
        bench = self.bench
        match does:
            case "runs":
                assert step["as"] not in self.asked, "names are used once"
                self.asked[step["as"]] = self.run(worker, step)
            case "acquires":
                assert step["as"] not in self.asked, "names are used once"
                times = {name: float(step[name]) for name in ("ttl", "timeout") if name in step}
                self.asked[step["as"]] = bench.acquire(worker, **times)
            case "cancels":
                bench.withdraw(self.request(step["what"]))
            case "releases":
                bench.release(self.lease(step["what"]), worker=worker)
            case "beats":
                bench.heartbeat(worker, *(self.lease(name).token for name in step["holds"]))
            case "leaves":
                bench.lose(worker)
            case _:
                raise ValueError(f"no worker {does}")

    def run(self, worker: Worker, step: dict[str, Any]) -> Request | str:
        """A worker sends a statement. Returns the code of the error if it is refused before it is a request."""
        bench, sql, timeout = self.bench, step["sql"], step.get("timeout")
        if step.get("short"):
            return bench.send(worker, sql, timeout=timeout)
        if "on" not in step:
            kind = Kind.STATEMENT if bench.statement(sql).leaves_nothing else Kind.SESSION
            return bench.submit(worker, sql, kind=kind, timeout=timeout)
        try:
            return bench.submit_on(self.lease(step["on"]), sql, worker=worker, timeout=timeout)
        except LeaseBusy:
            return "asyncpg"  # InterfaceError: another operation is in progress
        except LeaseError as error:
            return error.code

    def look(self, see: dict[str, str] | None = None, backends: list[str] | None = None, opened: int = -1) -> None:
        """Compare what is with what the story says."""
        for name, expected in (see or {}).items():
            assert (name, self.state(name)) == (name, expected)
        if backends is not None:
            assert sorted(self.bench.states()) == sorted(backends)
        if opened >= 0:
            assert self.bench.opens == opened

    def state(self, name: str) -> str:
        """What has become of a request, or of the lease that it was answered with."""
        asked = self.asked[name]
        if isinstance(asked, str):
            return asked
        match self.bench.outcomes.get(asked):
            case None:
                return "runs" if self.bench.runs(asked) else "waits"
            case Lease() as lease if lease in self.bench.pool.leases.all():
                return "held"
            case Lease() as lease:
                return f"ended: {self.bench.told[lease].code}" if lease in self.bench.told else "over"
            case PgactorError(code=code):
                return code
            case outcome:
                return str(outcome)

    def worker(self, name: str) -> Worker:
        if name not in self.workers:
            self.workers[name] = self.bench.worker(name, silence_limit=self.limits.get(name))
        return self.workers[name]

    def request(self, name: str) -> Request:
        request = self.asked[name]
        assert isinstance(request, Request), f"{name} was refused: {request}"
        return request

    def lease(self, name: str) -> Lease:
        outcome = self.bench.outcomes[self.request(name)]
        assert isinstance(outcome, Lease), f"{name}: {outcome}"
        return outcome


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_the_pool_behaves_as_the_story_tells(path: Path) -> None:
    story = tomllib.loads(path.read_text(encoding="utf-8"))
    assert story.keys() <= {"about", "steps", "pool", "workers"}
    assert story["about"]
    stage = Stage(story)
    for number, step in enumerate(story["steps"], 1):
        try:
            stage.play(step)
        except AssertionError as error:
            raise AssertionError(f"step {number}, {step}: {error}") from error


def test_there_is_a_story_for_each_thing_that_can_be_done() -> None:
    steps = [step for path in STORIES for step in tomllib.loads(path.read_text(encoding="utf-8"))["steps"]]
    assert {step["does"] for step in steps if "does" in step} == set(KEYS)


def test_a_story_that_is_not_true_fails() -> None:
    stage = Stage({"pool": {}, "steps": []})
    stage.play({"at": 0, "who": "web", "does": "acquires", "ttl": 30, "as": "lease"})
    stage.play({"at": 29, "see": {"lease": "held"}})
    with pytest.raises(AssertionError):
        stage.play({"at": 30, "see": {"lease": "held"}})
    with pytest.raises(AssertionError):
        stage.play({"at": 30, "backends": ["leased"]})
    with pytest.raises(AssertionError):
        stage.play({"at": 31, "who": "web", "does": "acquires", "tll": 30, "as": "other"})
