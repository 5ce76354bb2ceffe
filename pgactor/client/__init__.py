"""The worker's side. Never imports core, actors or asyncpg when it is imported.

What both kinds of client share, without I/O:

calls.py        the arguments of every call -> messages
replies.py      replies -> results
pending.py      a request that is not answered yet
requests.py     unanswered requests, shapes and leases of one link
frames.py       requests as frames that the supervisor takes
attempts.py     when to try again to connect, and when to give up
deeds.py        as calls.py, for what a lease has open on its session
holding.py      a lease as its owner's side holds it
inbox.py        notes of NOTIFY, and who on a link hears which channel
listened.py     the listeners of a lease, by channel
subscribing.py  what a subscription is, whatever shell is around it
leased.py       what it knows of its session, and who listens
resources.py    prepared statements and cursors, as their owner knows them
codecs.py       an application's own encoders and decoders
recordclass.py  rows of a class of the application's own
objects.py      asyncpg's own objects, made of what the supervisor tells
steps.py        what BEGIN, SAVEPOINT and their ends are, and when they are allowed
failures.py     `Failed` -> the exception it stands for
options.py      what a client is told when it is made

And the two kinds, from the user's side down to the socket:

sync.py         Client           aio.py           AsyncClient      what users call
lease.py        Lease            aiolease.py      AsyncLease
subscription.py Subscription     aiosubscription.py AsyncSubscription
prepared.py                      aioprepared.py                    PreparedStatement
cursor.py                        aiocursor.py                      Cursor
transaction.py                   aiotransaction.py                 Transaction
statements.py                    aiostatements.py                  execute, fetch ... of a client and of a lease
listening.py                     aiolistening.py                   add_listener ... of a lease
channel.py                       aiochannel.py                     connects, and connects again
connected.py                     aioconnected.py                   one link, shared by threads or tasks
links.py                         aiolinks.py                       ipc: a plain socket; tcp: pyzmq
dealer.py                                                          pyzmq's socket, with its keys
heart.py                                                           the thread that renews leases
"""
