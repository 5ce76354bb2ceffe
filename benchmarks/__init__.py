"""Peers side by side, alternating in one run.

database.py   the table that is looked up
peers.py      pgactor, and what it is compared with
load.py       processes that keep many look-ups in flight, and what they measure
lookup.py     requests per second and latency: `python -m benchmarks.lookup`
first_row.py  a fresh process's first row: `python -m benchmarks.first_row`
"""
