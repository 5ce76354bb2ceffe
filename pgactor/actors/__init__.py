"""The hands: they carry out what the brain (core/) decides, and report what happened.

    supervisor.py   start order, signals, drain
    pools.py        the pools, and which of them a worker's link belongs to
    templates.py    pools that are made on demand
    hooks.py        the application's functions for new, used and returned connections
    embedded.py     a PostgreSQL of the supervisor's own

Workers:
    ipc.py          those on Unix sockets           tcp.py      those on TCP
    peer.py         a worker's link, whatever its road
    curve.py        keys, for those on TCP          permits.py  what each key may do
    tcpconnection.py  the connection beneath a link, to be ended
    dialogue.py     what workers say, as requests to the brain
    greeting.py     hello                           letting.py  what they ask for leases, and on them
    limits.py       what one worker may have at the same time
    failures.py     exceptions -> `Failed` messages
    shapes.py       what result rows look like, each told once to each worker

The brain:
    conductor.py    carries out what it decides     outcomes.py  tells it, and workers, what comes of it

PostgreSQL, the session lane:
    backend.py      one PostgreSQL session: run, reset, close
    mailbox.py      what it is to do                rest.py          how its session comes to rest
    sessionlane.py  asyncpg runs a statement, and its answer is reported
    interrupting.py  ends what nobody wants any more
    handover.py     the connection, and a lease's statements, from one lane to the other
    session.py      asyncpg's connection, with the little of it that is private
    asyncpgcheck.py  whether this asyncpg has that
    opening.py      how it is opened                 renewal.py      how it is made new
    feeding.py      many arguments of one statement  identifiers.py  names in SQL
    reading.py      statements of workers that may only read
    tenancy.py      what a lease has open on its session: prepared statements, cursors
    tenants.py      the requests to that, and what they are to the brain
    codecs.py       types that a lease's worker encodes and decodes
    batches.py      a batch, one statement after another

PostgreSQL, the statement lane:
    lane.py         who may enter
    plan.py         how one statement is run
    quicktypes.py   the types that need no Python objects
    arguments.py    arguments -> Bind                    transcode.py, fields.py   rows -> msgpack
    turn.py         when a turn of the event loop began

The statement lane on one backend:
    pipeline.py     statements of many workers, one behind the other on one connection: joins what follows
    prepared.py     what PostgreSQL has prepared there   flight.py   what is on its way
    departures.py   those that cannot be written as they came
    connection.py   asyncpg's connection, borrowed       reader.py   bytes -> messages, and whom they answer
    cancelling.py   ends what nobody wants or what takes too long
    hold.py         reads no more for a worker that does not read
    loss.py         what is certain once the connection is lost
    reports.py      who hears of what comes of it, and of what happens to a backend
    unit.py         what is sent as one: a request's statement, or one of these
        describing.py   what PostgreSQL tells of a statement before it first runs
        group.py        several of one request, written at once
    reply.py        what a statement may be answered     pgwire.py   the protocol's messages
"""
