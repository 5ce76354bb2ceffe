"""`pgactor serve`, with a socket at which a test asks what is in its memory: `python census.py SOCKET serve ...`.

Whoever connects to the socket gets a JSON object and the end of the connection: how many objects of each class of
pgactor's there are, how many tasks, sockets and deadlines.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from pgactor.actors import pools, supervisor
from pgactor.cli import main
from pgactor.core.deadlines import Deadlines

KEPT: list[pools.Pools] = []

CACHES = {"Statement", "Shape", "Column", "RowEncoder", "Plan", "Prepared", "Field"}
"""Kept on purpose, and bounded: what is known of statements."""

OF_BACKENDS = {
    "Pipeline",
    "Departures",
    "Loss",
    "Hold",
    "Reply",
    "Reader",
    "Flight",
    "Cancelling",
    "Connection",
    "RowsDecoder",
    "_Nowhere",
}
"""Made for a backend when it first needs it, and kept with it."""


class KeptPools(pools.Pools):
    """The supervisor's pools, where they can be found."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        KEPT.append(self)


def count() -> dict[str, int]:
    """What there is; in the event loop, between two turns."""
    for conductor in KEPT[0].conductors.values():
        _forget_the_cancelled(conductor.pool.deadlines)
    gc.collect()
    found = Counter(type(each).__name__ for each in gc.get_objects() if type(each).__module__.startswith("pgactor."))
    for name in CACHES | OF_BACKENDS:
        found.pop(name, None)
    found["tasks"] = len(asyncio.all_tasks(KEPT[0]._loop))
    found["sockets"] = sum(
        "socket:" in str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
    )
    for name, conductor in KEPT[0].conductors.items():
        pool = conductor.pool
        found[f"{name}: workers"] = len(pool.roster)
        found[f"{name}: leases"] = len(pool.leases)
        found[f"{name}: waiting"] = len(pool.queue)
        found[f"{name}: in flight"] = sum(len(holder.flight) for holder in pool.holders)
        found[f"{name}: deadlines"] = len(pool.deadlines)
        found[f"{name}: being set up"] = len(conductor._outcomes._setting_up)
    return dict(found)


def _forget_the_cancelled(deadlines: Deadlines[object]) -> None:
    """The heap drops them when their time comes or they are many; what only it remembers is no leak."""
    size = len(deadlines._heap)
    assert size <= max(65, 3 * len(deadlines) + 1), f"{size} in the heap of {len(deadlines)} deadlines"
    deadlines._heap = sorted(entry for entry in deadlines._heap if deadlines._living.get(entry[2]) == entry[1])


def answer(path: str) -> None:
    """Answer whoever connects."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        sock, _ = listener.accept()
        with sock:
            done: list[dict[str, int]] = []
            counted = threading.Event()

            def look(done: list[dict[str, int]] = done, counted: threading.Event = counted) -> None:
                try:
                    done.append(count())
                finally:
                    counted.set()

            KEPT[0]._loop.call_soon_threadsafe(look)
            counted.wait()
            sock.sendall(json.dumps(done).encode())


if __name__ == "__main__":
    vars(supervisor)["Pools"] = KeptPools
    threading.Thread(target=answer, args=(sys.argv.pop(1),), daemon=True).start()
    main()
