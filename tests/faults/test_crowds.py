"""A thousand workers that connect and vanish."""

from __future__ import annotations

import signal
import socket

from tests.endtoend.processes import Worker
from tests.faults.scene import CensusSupervisor, Scene

AT_A_TIME = 50
"""Processes."""

CROWD = """
import pgactor, signal
client = pgactor.Client(label="crowd")
at_a_time = int(sys.argv[1])

def vanish(number):
    match number % 8:
        case 0:
            client.status()
        case 1:
            assert client.fetchval("select $1::int", number) == number
            client.close()
        case 2:
            assert client.fetchval("select $1::int", number) == number
        case 3:
            lease = client.acquire()
            lease.execute("begin")
            lease.execute("select pg_advisory_lock($1)", number)
            os.kill(os.getpid(), signal.SIGKILL)
        case 4:
            signal.setitimer(signal.ITIMER_REAL, 0.02)  # SIGALRM ends it in the middle of this:
            client.execute("select pg_sleep(60)")
        case 5:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with client.acquire() as lease:
                lease.copy_from_query("select generate_series(1, 1e9)", output=lambda _: None)
        case 6:
            client.acquire()
            os._exit(0)
        case 7:
            os.kill(os.getpid(), signal.SIGKILL)

for start in range(0, 1000, at_a_time):
    pids = [fork(vanish, number) for number in range(start, start + at_a_time)]
    say(sorted({status_of(pid) for pid in pids}))
"""


def test_1000_workers_that_connect_and_vanish_leave_nothing(
    scene: Scene, census_supervisor: CensusSupervisor
) -> None:
    crowd = Worker(CROWD, census_supervisor.ipc, AT_A_TIME, flags=())
    try:
        for _ in range(0, 1000, AT_A_TIME):
            assert crowd.hear(seconds=40) == [-signal.SIGALRM, -signal.SIGKILL, 0], crowd.errors
        crowd.must_end_well()
    finally:
        crowd.end()
    for number in range(40):  # and some that never even said hello
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(census_supervisor.ipc.removeprefix("ipc://"))
            stranger.send((b"", b"\xff", b"GET / HTTP/1.0\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x03")[number % 4])
    scene.must_be_as_before()
    assert scene.status().counters["connections_lost"] == 0
