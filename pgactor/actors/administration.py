"""What workers may change of the pool: its size, and the connect arguments of new connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.actions import Action
from ..core.pool import Pool
from ..errors import ConfigError, NotPermitted, PoolClosing
from ..messages import Done, Failed
from ..messages.pool import Expire, Resize, SetConnectArgs
from .failures import failed
from .faults import tell
from .peer import Peer
from .permits import Permit

SetArguments = Callable[[str | None, Mapping[str, Any]], None]
"""Takes the dsn and the other connect arguments; raises `ConfigError` for those that cannot be."""


class Administration:
    """Carries out what a worker asks for, if it may. set_connect_args: None where nobody is to change them."""

    def __init__(
        self, pool: Pool, set_connect_args: SetArguments | None, *, do: Callable[[list[Action]], None]
    ) -> None:
        self._pool = pool
        self._set_connect_args = set_connect_args
        self._do = do

    def hear(
        self, now: float, road: str, permit: Permit | None, message: Resize | SetConnectArgs | Expire
    ) -> Done | Failed:
        """The answer to the message, which came by this road. permit: that of the worker's key, if it has one."""
        try:
            self._check(road, permit, may_all=isinstance(message, Expire))
            if self._pool.closing:
                raise PoolClosing("the supervisor is shutting down; try again shortly")
            if isinstance(message, Expire):
                self._do(self._pool.expire_connections(now))
            elif isinstance(message, Resize):
                self._do(self._pool.resize(now, message.max_size, message.min_size))
            elif self._set_connect_args is None:
                raise NotPermitted("the connect arguments of this pool cannot be changed")
            else:
                self._set_connect_args(message.dsn, message.arguments)
        except (ConfigError, NotPermitted, PoolClosing, ValueError) as error:
            return failed(message.id, error)
        except Exception as error:
            tell(f"{type(message).__name__} could not be done, and its worker is told", error)
            return failed(message.id, error)
        return Done(message.id)

    def check_operator(self, peer: Peer) -> None:
        """Raises `NotPermitted` for who may not operate the pool: whoever may send the process a signal may in any
        case."""
        if not peer.is_owner:
            self._check(peer.road, peer.permit)

    def _check(self, road: str, permit: Permit | None, *, may_all: bool = False) -> None:
        """may_all: it is for everybody whose key does not forbid it."""
        may = self._pool.settings.workers_may_administer
        if permit is not None and not permit.may_administer:
            raise NotPermitted(
                f"the key {permit.name!r} may not administer the pool; may_administer = true in its file permits it"
            )
        if may_all or (permit is not None and may is None):
            return
        if not (road == "ipc" if may is None else may):
            setting = "on ipc only" if may is None else "to nobody"
            raise NotPermitted(
                f"the supervisor permits workers to administer the pool {setting}; its setting "
                "pool.workers_may_administer = true permits it to all"
            )
