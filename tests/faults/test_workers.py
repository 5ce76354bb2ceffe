"""What happens to workers, in every state of a lease."""

from __future__ import annotations

import signal

import pytest

from tests.faults.scene import OpenScene, Scene
from tests.faults.states import STATES

AT_ONCE = 5.0
"""Seconds: on ipc a worker's end is known by its socket, and no timeout is waited for; the least is a ttl of 30 s."""

EVERY_STATE = pytest.mark.parametrize("state", STATES)
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@EVERY_STATE
@KINDS
def test_a_killed_worker_leaves_nothing(scene: Scene, kind: str, state: str) -> None:
    worker = scene.worker(kind, state)
    worker.kill()
    scene.must_be_free(seconds=AT_ONCE)
    scene.must_be_as_before()
