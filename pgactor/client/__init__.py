"""The worker's side. Never imports core, actors or asyncpg when it is imported.

requests.py     unanswered requests, shapes, leases of one link; no I/O
links.py        blocking links: a plain socket for ipc, pyzmq for tcp
channel.py      one link for all threads of a process: connect, call, renew, survive forks
sync.py         Client           aio.py        AsyncClient
lease.py        Lease            aiolease.py   AsyncLease
aiochannel.py   one link for each event loop
transaction.py  what BEGIN, SAVEPOINT and their ends are, and when they are allowed
calls.py        the arguments of every call -> messages; replies -> results
failures.py     `Failed` -> the exception it stands for
options.py      what a client is told when it is made
"""
