"""A soak in which every row, every write and every error is judged: `python -m benchmarks.soak --help`.

truth.py      the tables, and what is in them: pure functions of an id
ledger.py     every write, noted before it is sent and when it is answered, so that even a killed worker's are known
judging.py    what an error promises, and which errors there may be
asker.py      asks one request after another, some with a short timeout, some cancelled, and judges what comes
reads.py      statements that read: the tag of the request and the values that its id predicts
writes.py     statements that write, alone, many at a time and in batches
leases.py     sessions of one's own: transactions, savepoints, deaths, and what they leave behind
failing.py    statements that fail, slow ones, and a table that changes
mix.py        how often each of them comes
worker.py     one process of askers, async or in threads
background.py what goes on beside the workers, in a thread of its own: one of these
disturber.py  ends backends, changes a table, replaces connections
chaos.py      kills, stops, floods and restarts everything else, PostgreSQL and the supervisor among it
postgres.py   the database, which can be restarted
supervisor.py the supervisor, as a process
memory.py     whether its memory stays flat
crew.py       the workers: started, killed, replaced
verdict.py    what is in the tables at the end, against what was noted
report.py     progress, and the table at the end
"""
