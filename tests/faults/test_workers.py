"""What happens to workers, in every state of a lease."""

from __future__ import annotations

import signal

import pytest

from tests.faults.scene import OpenScene, Scene
from tests.faults.states import STATES

AT_ONCE = 10.0
"""Seconds: on ipc a worker's end is known by its socket. What else might free its lease is its ttl, of 30 s."""

TTL = 1.0
"""Seconds, of leases that are to expire."""

EVERY_STATE = pytest.mark.parametrize("state", STATES)
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])

ZOMBIES = [each for each in STATES if each != "granted"]
"""The one that is queued is granted a lease while it is stopped."""

AWAKE = pytest.mark.parametrize(
    ("kind", "state"),
    [(kind, state) for kind in ("sync", "async") for state in STATES if (kind, state) != ("sync", "granted")],
)
"""Where a worker can exit or fork. (A thread that waits takes what is granted at once, unless it is stopped.)"""

IN_A_CHILD = {"queued": "no lease", "granted": "no lease", "resetting": "InterfaceError"}
"""What becomes of the parent's lease in a child, where it is not LeaseLost: there was none yet, or none any more."""

COMMIT = {"in_a_transaction", "in_a_cursor"}
"""States in which a worker that goes on commits a change."""


@EVERY_STATE
@KINDS
def test_a_killed_worker_leaves_nothing(scene: Scene, kind: str, state: str) -> None:
    worker = scene.worker(kind, state)
    worker.kill()
    scene.must_be_free(seconds=AT_ONCE)
    scene.must_be_as_before()


@AWAKE
def test_a_worker_that_exits_without_close_leaves_nothing(scene: Scene, kind: str, state: str) -> None:
    worker = scene.worker(kind, state)
    worker.tell("exit")
    worker.must_end()
    scene.must_be_free(seconds=AT_ONCE)
    scene.must_be_as_before()


@AWAKE
def test_a_child_that_ends_first_leaves_the_parents_lease_as_it_is(scene: Scene, kind: str, state: str) -> None:
    parent = scene.worker(kind, state)
    child = scene.child(parent)
    assert child.ask("touch") == IN_A_CHILD.get(state, "LeaseLost")
    if state in ("running", "queued"):  # no matter how it ends
        child.kill()
    else:
        child.tell("exit")
        child.must_end()
    assert scene.leases_of(parent) == (state not in ("queued", "resetting"))
    scene.open_the_gate()
    assert parent.ask("go on") == goes_on(state)
    assert parent.ask("use") == "used"
    parent.kill()
    scene.must_be_as_before(committed=state in COMMIT, copied=state == "copying_in")


@AWAKE
def test_a_parent_that_ends_first_leaves_its_child_a_client_that_works_and_no_lease(
    scene: Scene, kind: str, state: str
) -> None:
    parent = scene.worker(kind, state)
    child = scene.child(parent)
    parent.kill()
    scene.must_be_free(seconds=AT_ONCE)
    assert child.ask("touch") == IN_A_CHILD.get(state, "LeaseLost")
    scene.open_the_gate()
    assert child.ask("use") == "used"
    child.kill()
    scene.must_be_as_before()


@pytest.mark.parametrize("road", ["ipc", "tcp"])
@KINDS
def test_workers_that_were_stopped_for_too_long_cannot_touch_their_backends_next_life(
    open_scene: OpenScene, kind: str, road: str
) -> None:
    scene = open_scene(road)
    zombies = {state: scene.worker(kind, state, ttl=TTL) for state in ZOMBIES}
    for zombie in zombies.values():
        zombie.stop()
    scene.free_one()
    scene.must_be_free(seconds=20)
    scene.open_the_gate()
    with scene.next_life():
        for zombie in zombies.values():
            zombie.tell("go on")
            zombie.signal(signal.SIGCONT)
        said = {state: zombie.hear() for state, zombie in zombies.items()}
    lost = {"LeaseExpired", "LeaseLost"}
    unknown = {*lost, "OutcomeUnknown"}
    may_say = {state: unknown if state in ("running", "copying_in", "copying_out") else lost for state in ZOMBIES}
    may_say["resetting"] = {"ConnectionDoesNotExistError"}
    assert {state: word for state, word in said.items() if word.split(":")[0] not in may_say[state]} == {}
    for zombie in zombies.values():
        word = zombie.ask("use")
        if road == "tcp" and word.startswith(("SupervisorUnavailable", "OutcomeUnknown")):  # so it learns of it
            word = zombie.ask("use")
        assert word == "used"
    for zombie in zombies.values():
        zombie.tell("close")
        zombie.must_end()
    scene.must_be_as_before()


@KINDS
def test_on_tcp_killed_workers_leave_nothing_after_silence_seconds(open_scene: OpenScene, kind: str) -> None:
    scene = open_scene("tcp")
    workers = [scene.worker(kind, state) for state in ZOMBIES if state != "resetting"]  # it holds nothing any more
    for worker in workers:
        worker.kill()
    scene.free_one()
    scene.must_be_free(seconds=20)
    scene.must_be_as_before()


def goes_on(state: str) -> str:
    """What a worker says that went on as if nothing had happened."""
    return {"copying_in": "COPY 40000", "copying_out": "COPY 5000", "resetting": "ConnectionDoesNotExistError"}.get(
        state, "went on"
    )
