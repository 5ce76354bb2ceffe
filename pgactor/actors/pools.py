"""The pools of one supervisor: each with a conductor of its own, and each worker's link with one of them.

A link belongs to the pool that its hello names, for as long as it lives. Until then its frames come here; from then
on they go straight to the pool's dialogue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from .. import wire
from ..config import DEFAULT_POOL, Settings
from ..config.pool import MOST_CONNECTIONS
from ..config.tables import PoolTable
from ..core import report
from ..core.pool import Pool
from ..errors import NotPermitted, PoolClosing, PoolError, ProtocolError
from ..messages import PROTOCOL_VERSION, Hello
from ..messages.operating import Moved, OperatorRequest
from ..messages.pool import PoolStatus
from . import hooks
from .conductor import Conductor, new_epoch
from .dialing import Dialer
from .failures import failed
from .peer import Peer
from .permits import Permit, known, may_join
from .reloading import Changes, changes
from .templates import Template

log = logging.getLogger("pgactor.pools")

SWEEP_PARTS = 4
"""How often it is looked for idle pools, in the time that one may idle."""


class Pools:
    """Owns the conductors, by their names, and gives each link its dialogue.

    Raises `ConfigError` for a hook that cannot be imported and for a template without a place for a name.
    """

    def __init__(self, settings: Settings, *, add_to_status: Callable[[PoolStatus], None] = lambda _: None) -> None:
        """add_to_status: adds what is known of the supervisor."""
        self._settings = settings
        self._add_to_status = add_to_status
        self._frames = wire.worker_frames(settings.max_frame_bytes)
        self._several = bool(settings.pools or settings.templates)
        self._loop = asyncio.get_running_loop()
        self._draining = False
        self._moved = False  # another supervisor serves the workers
        self._held: Mapping[str, int] | None = {}  # what another one has of each; None: not told yet
        self._dialers: dict[str, Dialer] = {}
        self.operate: Callable[[Peer, OperatorRequest], None] = lambda _, __: None
        self._closing: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._templates = {name: Template(name, table) for name, table in settings.templates.items()}
        self._hooks = {
            DEFAULT_POOL: hooks.load(settings.hooks),
            **{name: hooks.load(table.hooks) for name, table in (settings.pools | settings.templates).items()},
        }
        self.conductors = {DEFAULT_POOL: self._conductor(DEFAULT_POOL, settings)}
        for name, table in settings.pools.items():
            self.conductors[name] = self._conductor(name, self._settings_of(table))
        self._first = self.conductors[DEFAULT_POOL].dialogue

    # --- life ---------------------------------------------------------------------------------------------

    @property
    def lasting(self) -> list[str]:
        """The names of those that are not made on demand."""
        return [DEFAULT_POOL, *self._settings.pools]

    def states(self) -> list[PoolStatus]:
        """The state of each."""
        now = self._loop.time()
        return [conductor.dialogue.state(now) for conductor in self.conductors.values()]

    def start(self) -> None:
        """Open the first connections of each."""
        for conductor in self.conductors.values():
            conductor.start()
        if any(template.idle_seconds for template in self._templates.values()):
            self._sweep_later()

    async def drain(self, seconds: float) -> None:
        """Let the work in progress in all of them end, for so many seconds, then end it."""
        self._draining = True
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.gather(*(conductor.drain(seconds) for conductor in self.conductors.values()))
        await asyncio.gather(*self._closing)

    # --- operating ----------------------------------------------------------------------------------------

    def named(self, names: Sequence[str] | None, permit: Permit | None) -> dict[str, Conductor]:
        """Those of these names; None: all. permit: of who asks, if it needs one. Raises `PoolError` for a name that
        there is none of, and `NotPermitted` for one that is none of its."""
        if names is None:
            if permit is not None and permit.pools is not None:
                raise NotPermitted(
                    f"the key {permit.name!r} may not operate the supervisor, only: {', '.join(permit.pools)}"
                )
            return dict(self.conductors)
        for name in names:
            may_join(permit, name)
        if unknown := [name for name in names if name not in self.conductors]:
            there = ", ".join(known(permit, self.conductors)) or "none that you may know of"
            raise PoolError(f"the supervisor has no pool {unknown[0][:200]!r} now; it has: {there}")
        return {name: self.conductors[name] for name in names}

    def reload(self, new: Settings) -> Changes:
        """Go by other settings, as far as that may be. Raises `ConfigError` for those that cannot be; then nothing
        has changed."""
        running = {name: conductor.pool.settings for name, conductor in self.conductors.items()}
        found = changes(self._settings, new, running)
        self._settings = found.settings
        for name, (settings, connect, renew) in found.pools.items():
            if renew:
                self._dialers[name].dial(connect)
            full = msgspec.structs.replace(self._settings, pool=settings, connect=connect)
            self.conductors[name].configure(full, renew=renew)
        return found

    @property
    def draining(self) -> bool:
        """Whether all of them are to end."""
        return self._draining

    @property
    def lent(self) -> bool:
        """Whether another supervisor has connections of these pools, or may have."""
        return self._held is None or any(self._held.values())

    def lend(self, held: Mapping[str, int] | None) -> None:
        """Another supervisor has so many connections of each pool, by its name; None: it is not told yet."""
        self._held = held
        for name, conductor in self.conductors.items():
            conductor.lend(self._elsewhere(name))

    def _elsewhere(self, name: str) -> int:
        return MOST_CONNECTIONS if self._held is None else self._held.get(name, 0)

    def hand_over(self, tell: Callable[[str, int], None]) -> None:
        """Another supervisor serves the workers. tell: is told how many connections a pool keeps yet."""
        self._moved = self._draining = True
        for name, conductor in self.conductors.items():
            conductor.hand_over(partial(tell, name))

    def take_back(self) -> None:
        """It is gone: serve them again, with what is kept; `lend({})` gives back the rest."""
        self._moved = self._draining = False
        self._held = {name: conductor.pool.fleet.elsewhere for name, conductor in self.conductors.items()}
        for conductor in self.conductors.values():
            conductor.take_back()

    # --- what the gateways hear ---------------------------------------------------------------------------

    def frame(self, peer: Peer, frame: bytes) -> None:
        """A frame on a link that belongs to no pool yet."""
        try:
            hello = next((each for each in self._frames.decode(frame) if isinstance(each, Hello)), None)
        except ProtocolError:
            hello = None  # the dialogue will say so
        if hello is None or hello.version != PROTOCOL_VERSION:
            self._first.frame(peer, frame)
            return
        if self._moved:  # it was on its way here when another supervisor took over
            peer.send(Moved(over=True))
            peer.close("another supervisor listens at the endpoint now")
            return
        try:
            dialogue = self._get(may_join(peer.permit, hello.pool or DEFAULT_POOL), peer.permit).dialogue
        except (PoolError, NotPermitted) as error:
            label, pid = report.in_one_line(hello.label), peer.pid or hello.pid
            log.warning("pid %d (%s) was refused: %s", pid, label, error, extra={"worker": label, "pid": pid})
            peer.send(failed(None, error))
            peer.close(str(error))
            return
        peer.heard_by = dialogue
        dialogue.frame(peer, frame)

    def disconnected(self, peer: Peer, reason: str) -> None:
        """A link that belonged to no pool has ended."""
        self._first.disconnected(peer, reason)

    def malformed(self, peer: Peer | None, reason: str) -> None:
        """Something on such a link could not be read."""
        self._first.malformed(peer, reason)

    def restart(self, brain: Pool, reason: str) -> None:
        """Begin the pool anew whose brain this is, without anything that it held; one that was to end is ended."""
        for name, conductor in self.conductors.items():
            if conductor.pool is not brain:
                continue
            if conductor.pool.closing:
                log.error("pool %s ends at once, with its connections and leases: %s", name, reason)
                self._end(conductor.abandon(reason))
            else:
                log.error(
                    "pool %s begins anew: its connections and links are ended, its leases lost: %s", name, reason
                )
                successor = self.conductors[name] = conductor.successor()
                if name == DEFAULT_POOL:
                    self._first = successor.dialogue
                self._end(conductor.abandon(reason))
                successor.start()
            return

    # --- by name ------------------------------------------------------------------------------------------

    def _get(self, name: str, permit: Permit | None) -> Conductor:
        """The pool of that name, made now if it is of a template. permit: of who asks. Raises `PoolError`."""
        conductor = self.conductors.get(name)
        if conductor is not None:
            return conductor
        kind, _, part = name.partition("/")
        template = self._templates.get(kind)
        if template is None:
            names = [DEFAULT_POOL, *self._settings.pools, *(each.example for each in self._templates.values())]
            there = ", ".join(known(permit, names)) or "none that you may know of"
            raise PoolError(f"the supervisor has no pool {name[:200]!r}; it has: {there}")
        if self._draining:
            raise PoolClosing("the supervisor is shutting down; try again shortly")
        table = template.table_for(part)
        self._make_room(template)
        conductor = self.conductors[name] = self._conductor(name, self._settings_of(table), template.name)
        conductor.lend(self._elsewhere(name))
        log.info("pool %s is opened", name, extra={"pool": name})
        conductor.start()
        return conductor

    def _settings_of(self, table: PoolTable) -> Settings:
        connect = table.connecting(self._settings.connect)
        return msgspec.structs.replace(self._settings, pool=table, connect=connect)

    def _conductor(self, name: str, settings: Settings, kind: str | None = None) -> Conductor:
        called = self._hooks[kind or name]
        if called.each_use:  # as in asyncpg, they are called for each statement: none may leave anything to the next
            settings = msgspec.structs.replace(
                settings, pool=msgspec.structs.replace(settings.pool, reset_every_statement=True)
            )
        dialer = self._dialers[name] = Dialer(settings.connect, called)
        conductor = Conductor(
            settings,
            connect=dialer.open,
            epoch=new_epoch(),
            set_connect_args=dialer.set_arguments,
            hooks=called,
            name=name if self._several else "",
        )
        conductor.dialogue.operate = self._operate
        conductor.dialogue.pool_name = name
        conductor.dialogue.pool_names = lambda: list(self.conductors)
        conductor.dialogue.add_to_status = self._add_to_status
        return conductor

    def _operate(self, peer: Peer, message: OperatorRequest) -> None:
        self.operate(peer, message)

    # --- those of templates -------------------------------------------------------------------------------

    def _made_of(self, template: Template) -> list[str]:
        return [name for name in self.conductors if name.startswith(f"{template.name}/")]

    def _make_room(self, template: Template) -> None:
        """Close the one that was longest without a worker, if there are as many as there may be. Raises `PoolError`
        if all are in use."""
        made = self._made_of(template)
        if len(made) < template.max_pools:
            return
        unused = [name for name in made if self.conductors[name].unused_since is not None]
        if not unused:
            raise PoolError(
                f"there are {len(made)} pools of the template {template.name!r} already (max_pools), and workers are "
                "connected to each"
            )
        self._close(min(unused, key=lambda name: self.conductors[name].unused_since or 0.0))

    def _close(self, name: str) -> None:
        del self._dialers[name]
        log.info("pool %s is closed: no worker is connected to it", name, extra={"pool": name})
        self._end(self.conductors.pop(name).drain(self._settings.drain_timeout_seconds))

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(ending)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _sweep_later(self) -> None:
        soonest = min(template.idle_seconds for template in self._templates.values() if template.idle_seconds)
        self._sweep = self._loop.call_later(soonest / SWEEP_PARTS, self._close_unused)

    def _close_unused(self) -> None:
        self._sweep_later()
        now = self._loop.time()
        for template in self._templates.values():
            for name in self._made_of(template):
                since = self.conductors[name].unused_since
                if template.idle_seconds and since is not None and now >= since + template.idle_seconds:
                    self._close(name)
