"""A plain script as a worker: eight processes count visits in one table, on the few connections the supervisor has.

The client is made once, before the processes are forked; each of them gets a link of its own when it first calls.
"""

from __future__ import annotations

import os

from pgactor import Client

PROCESSES = 8
VISITS = 100

client = Client()  # $PGACTOR_ENDPOINT says where


def count_visits(page: str) -> None:
    """What each process does: one-shots, which share connections, and a transaction, which holds one for a moment."""
    for _ in range(VISITS):
        client.execute("UPDATE visits SET number = number + 1 WHERE page = $1", page)
    with client.transaction() as lease:
        seen = lease.fetchval("SELECT number FROM visits WHERE page = $1 FOR UPDATE", page)
        lease.execute("INSERT INTO visit_log (page, pid, seen) VALUES ($1, $2, $3)", page, os.getpid(), seen)


def main() -> None:
    client.execute("DROP TABLE IF EXISTS visits, visit_log")
    client.execute("CREATE TABLE visits (page text PRIMARY KEY, number int NOT NULL)")
    client.execute("CREATE TABLE visit_log (page text, pid int, seen int)")
    client.executemany("INSERT INTO visits VALUES ($1, 0)", [("home",), ("about",)])
    children = []
    for number in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            count_visits("home" if number % 2 else "about")
            os._exit(0)
        children.append(pid)
    failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in children)
    for row in client.fetch("SELECT page, number FROM visits ORDER BY page"):
        print(f"{row['page']}: {row['number']} visits")
    status = client.status()
    print(f"{PROCESSES} processes, {failed} failed; server connections: {status.size} of at most {status.max_size}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
