"""The hands: they carry out what the brain (core/) decides, and report what happened.

supervisor.py  start order, signals, drain
ipc.py         workers on Unix sockets          tcp.py      workers on TCP
peer.py        a worker's link, as the conductor sees it, whatever its road
conductor.py   messages in, actions out: the only one who talks to the brain
backend.py     one PostgreSQL session and its mailbox: run, reset, close
session.py     asyncpg's connection, with the little of it that is private
shapes.py      what result rows look like, each told once to each worker
failures.py    exceptions -> `Failed` messages
embedded.py    a PostgreSQL of the supervisor's own
"""
