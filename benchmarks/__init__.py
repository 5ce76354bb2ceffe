"""Peers side by side, alternating in one run: `python -m benchmarks --help`.

statements.py  the SQL that all run, and pgbench's transaction
database.py    the tables, in $PGACTOR_BENCH_DSN or in an embedded PostgreSQL
servers.py     the supervisor and PgBouncer, as processes
usage.py       processor time, memory and cores of server processes
peers/         how pgactor, and what it is compared with, connects and runs statements
work.py        what one request of a scenario does, and which check its answer must pass
generator.py   one process that makes load, and keeps every sample
crew.py        many of them, started together
cases.py       the scenarios: who, how many, how much
measure.py     one run of one peer in one case
fresh.py       the first row of a fresh process
copying.py     COPY beside asyncpg's own, a program of its own: python -m benchmarks.copying
deaths.py      how soon what a killed worker held is another's, a program of its own: python -m benchmarks.deaths
rounds.py      who runs next to whom, and the ratios of neighbours
results.py     figures, and the file they are kept in
table.py       them, to be read
chart.py       them, to be looked at
"""
