"""The brain: plain objects that are told `now` and decide. No I/O, no clock, no asyncio.

What there is:

holder.py     one slot of the pool, and its whole life as a table
request.py    what a worker asked for, from arrival to its one answer
statement.py  what a statement's text tells, and what is learned of it
lease.py      exclusive use of a holder: grant, check, renew, end
roster.py     the workers: who they are, when they were last heard
actions.py    what the brain wants done

Who decides, each knowing only those above it:

deadlines.py  all timers
waitqueue.py  who waits, in fair order
pace.py       how busy the machine is
scheduler.py  which holder takes the next request
opener.py     when to open a connection
fleet.py      all holders: what is sent to them, when one is opened or retired
deadlock.py   whether those who hold all leases wait for more
desk.py       every request's way to its one answer
leasing.py    every lease from its grant to its end
dealing.py    brings those who wait and the holders together
connecting.py what becomes of the holders' connections
pool.py       the door: what workers ask and the hands report comes in here

report.py     the state in words and figures
"""
