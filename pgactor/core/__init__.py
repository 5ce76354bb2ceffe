"""The brain: plain objects that are told `now` and decide. No I/O, no clock, no asyncio.

holder.py     one slot of the pool, and its whole life as a table
request.py    what a worker asked for, from arrival to its one answer
desk.py       every request's way to its one answer
lease.py      exclusive use of a holder: grant, check, renew, end
waitqueue.py  who waits, in fair order
scheduler.py  which holder takes the next request
opener.py     when to open a connection
roster.py     the workers: who they are, when they were last heard
deadlines.py  all timers
actions.py    what the brain wants done
report.py     the state in words and figures
pool.py       joins them
"""
