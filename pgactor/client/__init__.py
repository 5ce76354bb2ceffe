"""The worker's side. Never imports core, actors or asyncpg when it is imported.

What both kinds of client share, without I/O:

calls.py        the arguments of every call -> messages
deeds.py        the same for what a lease has open on its session
copying.py      the same for COPY
chunks.py       many arguments, some at a time
replies.py      replies -> results
failures.py     `Failed` -> the exception it stands for
pending.py      a request that is not answered yet
requests.py     unanswered requests, shapes and leases of one link
frames.py       requests as frames that the supervisor takes
line.py         what waits here since the supervisor would only let it wait
attempts.py     when to try again to connect, and when to give up
options.py      what a client is told when it is made
surroundings.py the label and the deadline of the block that a request is made in
comments.py     both in the statement's text; tracing.py: its span
holding.py      a lease as its owner's side holds it
leased.py       what it knows of its session, and who listens
listened.py     its listeners, by channel
acquirer.py     who has acquired it, and where; releasing.py: what is looked at when it comes back
steps.py        what BEGIN, SAVEPOINT and their ends are, and when they are allowed
resources.py    prepared statements and cursors, as their owner knows them
codecs.py       an application's own encoders and decoders; encoders.py: how they reach into values
recordclass.py  rows of a class of the application's own
objects.py      asyncpg's own objects, made of what the supervisor tells
inbox.py        notes of NOTIFY, and who on a link hears which channel
subscribing.py  what a subscription is, whatever shell is around it
sizes.py        how large the pool is, in asyncpg's words
repeating.py    reads that may be run twice

And the two kinds, from the user's side down to the socket:

sync.py         Client           aio.py           AsyncClient      what users call
lease.py        Lease            aiolease.py      AsyncLease
subscription.py Subscription     aiosubscription.py AsyncSubscription
prepared.py                      aioprepared.py                    PreparedStatement
cursor.py                        aiocursor.py                      Cursor
transaction.py                   aiotransaction.py                 Transaction
statements.py                    aiostatements.py                  execute, fetch ... of a client and of a lease
copies.py                        aiocopies.py                      COPY of both
listening.py                     aiolistening.py                   add_listener ... of a lease
channel.py                       aiochannel.py                     connects, and connects again
connected.py                     aioconnected.py                   one link, shared by threads or tasks
links.py                         aiolinks.py                       ipc: a plain socket; tcp: pyzmq
dealer.py                                                          pyzmq's socket, with its keys
heart.py                                                           the thread that renews leases

And what stands on the second of them:

aiopool.py      AsyncClient with the life of asyncpg.Pool, as creating.py's create_pool makes it
aiohooked.py    the same with functions of the application's, hooks.py; poolcodecs.py: codecs that need no lease
outstanding.py  its leases; knowledge.py: what is known of the pool without asking
poolarguments.py  what create_pool is given
operator.py     what the command line asks of a supervisor, by a blocking channel
"""
