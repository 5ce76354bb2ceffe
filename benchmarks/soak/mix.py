"""How often each kind of request comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import accumulate

from . import failing, leases, reads, writes
from .asker import Asker

Deed = Callable[[Asker], Awaitable[None]]

_DEEDS: list[tuple[str, float, Deed]] = [
    ("look-up", 300, reads.lookup),
    ("look-up, numbered", 60, reads.lookup_by_number),
    ("look-up, all columns", 40, reads.lookup_all_columns),
    ("value", 40, reads.value),
    ("range", 40, reads.several),
    ("list", 30, reads.listed),
    ("no rows", 20, reads.nobody),
    ("nulls", 20, reads.nulls),
    ("many types", 12, reads.many_types),
    ("counted", 20, reads.counted),
    ("text asked once", 8, reads.once),
    ("big result", 0.4, reads.big),
    ("batch of reads", 15, reads.batch),
    ("left behind?", 20, leases.left_behind),
    ("insert", 70, writes.insert),
    ("delete", 25, writes.delete),
    ("count", 70, writes.count),
    ("many", 12, writes.many),
    ("many, failing", 4, writes.many_that_fail),
    ("very many", 0.15, writes.very_many),
    ("batch", 25, writes.batch),
    ("batch, failing", 8, writes.batch_that_fails),
    ("loose batch", 12, writes.loose_batch),
    ("transaction", 6, leases.transaction),
    ("savepoint", 2, leases.savepoint),
    ("row lock", 2, leases.row_lock),
    ("dirt", 3, leases.dirt),
    ("dirt, no lease", 2, leases.dirt_by_statement),
    ("deallocate all", 1.5, leases.forgotten),
    ("silence", 0.02, leases.silence),
    ("division by 0", 8, failing.division),
    ("cast", 5, failing.cast),
    ("key taken", 6, failing.taken),
    ("raised", 10, failing.raised),
    ("deferred", 4, failing.deferred),
    ("nonsense", 1, failing.nonsense),
    ("slow", 40, failing.slow),
    ("locked", 10, failing.locked),
    ("changing table", 20, failing.changing),
]

_NAMES = [name for name, _, _ in _DEEDS]
_BY_NAME = {name: deed for name, _, deed in _DEEDS}
_WEIGHTS = list(accumulate(weight for _, weight, _ in _DEEDS))

KINDS = tuple(_NAMES)
"""Their names, in order."""


async def next_deed(asker: Asker) -> None:
    """Do one of them."""
    [asker.kind] = asker.random.choices(_NAMES, cum_weights=_WEIGHTS)
    await _BY_NAME[asker.kind](asker)
