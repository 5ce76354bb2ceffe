"""Greenlets are acquirers of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.endtoend.processes import environment
from tests.supervising import StartSupervisor

STORY = """
    from gevent import monkey; monkey.patch_all()
    import gevent, gevent.event, pgactor, sys

    client = pgactor.Client(sys.argv[1])
    ends = []

    def work(number, both):
        with pgactor.label(f"greenlet {number}"), client.acquire(timeout=30):
            both.wait()
            try:
                with client.acquire(timeout=30) as lease:
                    (mine,) = [each for each in client.status().leases if each.lease == str(lease.token)]
                    ends.append(mine.label == f"greenlet {number}" and "in work" in mine.where)
            except pgactor.PoolDeadlock:
                ends.append("refused")

    class Both:  # as a barrier, which gevent has none of
        def __init__(self): self.count, self.all = 0, gevent.event.Event()
        def wait(self):
            self.count += 1
            if self.count == 2: self.all.set()
            self.all.wait(30)

    both = Both()
    gevent.joinall([gevent.spawn(work, number, both) for number in range(2)], timeout=60, raise_error=True)
    assert sorted(map(str, ends)) == ["True", "refused"], ends

    def child():
        with client.acquire(timeout=30):
            ends.append("served")

    with client.acquire():
        with client.acquire():
            waiting = gevent.spawn(child)  # its parent does not wait for it
            while not client.status().waiting:
                gevent.sleep(0.01)
    waiting.get(timeout=60)
    assert ends[-1] == "served", ends
    assert pgactor.label.get() == ""
    client.close()
"""


def test_greenlets_have_their_own_labels_and_wait_for_each_other_in_vain_at_most_once(
    start_supervisor: StartSupervisor,
) -> None:
    supervisor = start_supervisor(max_size=2)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STORY), supervisor.ipc],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
