"""Where pgactor chooses to differ from what the row promises, and why. docs/compatibility.md is made of it."""

from __future__ import annotations

DEVIATIONS: dict[str, tuple[str, ...]] = {
    "A1": (
        "The first argument is the supervisor's endpoint. `init_size`, `min_size`, `max_size`, `max_queries` and "
        "`max_inactive_connection_lifetime` are accepted and checked, but set in the supervisor, since all workers "
        "share the pool: a UserWarning names those that differ.",
        "`connect=`, `connection_class=` and arguments of asyncpg.connect raise `ClientError`, and that names their "
        "place in the supervisor's configuration: the connections are not in this process. "
        "`command_timeout` stays here, with a default of 60 s.",
        "`loop=` does nothing: a pool may be used in any event loop, and in several.",
    ),
    "A3": (
        "A database that cannot be reached is `DatabaseUnavailable`, a ConnectionError with asyncpg's text: the "
        "supervisor has met the error, perhaps long ago, and goes on trying.",
    ),
    "A4": ("expire_connections() before the start reaches the supervisor: its connections are there already.",),
    "A5": (
        "The error of a timeout is `PoolTimeout`, a TimeoutError that tells who holds what; asyncpg's has no text.",
        "With a timeout of 0 or less, a connection that is idle is given; asyncpg gives up without looking.",
    ),
    "A6": (
        "`init` is called once per pool, with an object on which codecs can be set and nothing else be done: the "
        'connections are opened by the supervisor, whose own hooks, named as "module:function", can do all.',
        "When `setup` or `reset` fail, the session is reset by the supervisor and not closed.",
    ),
    "A7": ("A statement's timeout covers the wait for a connection too: it is what the caller can still wait.",),
    "A8": (
        "The session is reset by the supervisor, after release() has returned: there is nothing to wait for, so "
        "timeout= is for a `reset=` of the application's only.",
    ),
    "A9": (
        "An error of the reset does not reach who released the connection: the supervisor closes the session, and "
        "logs it. An open transaction is rolled back without a word to the event loop's exception handler.",
    ),
    "A10": ("A session is made as new: temporary tables, SQL PREPAREs and SET ROLE do not stay either.",),
    "A12": ("What is counted is requests; resets, BEGIN and COMMIT of a batch and look-ups of types are not.",),
    "A14": (
        "The sizes are of the supervisor's pool, which all workers share, as it was known last: a look at numbers "
        "older than 0.2 s has them asked for anew, for the next look.",
    ),
    "A15": ("All workers' connections are replaced, and idle ones at once, not when they are next acquired.",),
    "A16": (
        "close() also waits for those that wait in acquire(), where asyncpg closes the connection they are about to "
        "get. It and terminate() end this worker's leases and link; the connections stay, for the others.",
        "A statement of the pool itself that terminate() breaks off ends in `OutcomeUnknown`, a ConnectionError: it "
        "may have taken effect.",
    ),
}
