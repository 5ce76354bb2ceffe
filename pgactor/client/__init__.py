"""The worker's side. Never imports core, actors or asyncpg when it is imported.

What both kinds of client share, without I/O:

calls.py        the arguments of every call -> messages; replies -> results
requests.py     unanswered requests, shapes and leases of one link
attempts.py     when to try again to connect, and when to give up
holding.py      a lease as its owner's side holds it
inbox.py        notes of NOTIFY, and who on a link hears which channel
listened.py     the listeners of a lease, by channel
subscribing.py  what a subscription is, whatever shell is around it
transaction.py  what BEGIN, SAVEPOINT and their ends are, and when they are allowed
failures.py     `Failed` -> the exception it stands for
options.py      what a client is told when it is made

And the two kinds, from the user's side down to the socket:

sync.py         Client           aio.py           AsyncClient      what users call
lease.py        Lease            aiolease.py      AsyncLease
subscription.py Subscription     aiosubscription.py AsyncSubscription
statements.py                    aiostatements.py                  execute, fetch ... of a client and of a lease
listening.py                     aiolistening.py                   add_listener ... of a lease
channel.py                       aiochannel.py                     connects, and connects again
connected.py                     aioconnected.py                   one link, shared by threads or tasks
links.py                         aiolinks.py                       ipc: a plain socket; tcp: pyzmq
heart.py                                                           the thread that renews leases
"""
