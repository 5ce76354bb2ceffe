"""What workers may change of the pool: its size, and the connect arguments of new connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.actions import Action
from ..core.pool import Pool
from ..errors import ConfigError, NotPermitted, PoolClosing
from ..messages import Done, Failed
from ..messages.pool import Resize, SetConnectArgs
from .failures import failed
from .peer import Peer

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

    def hear(self, now: float, road: str, message: Resize | SetConnectArgs) -> Done | Failed:
        """The answer to the message, which came by this road."""
        try:
            self._check(road)
            if self._pool.closing:
                raise PoolClosing("the supervisor is shutting down; try again shortly")
            if isinstance(message, Resize):
                self._do(self._pool.resize(now, message.max_size, message.min_size))
            elif self._set_connect_args is None:
                raise NotPermitted("the connect arguments of this pool cannot be changed")
            else:
                self._set_connect_args(message.dsn, message.arguments)
        except (ConfigError, NotPermitted, PoolClosing, ValueError) as error:
            return failed(message.id, error)
        return Done(message.id)

    def check_operator(self, peer: Peer) -> None:
        """Raises `NotPermitted` for who may not operate the pool: whoever may send the process a signal may in any
        case."""
        if not peer.is_owner:
            self._check(peer.road)

    def _check(self, road: str) -> None:
        may = self._pool.settings.workers_may_administer
        if not (road == "ipc" if may is None else may):
            setting = "on ipc only" if may is None else "to nobody"
            raise NotPermitted(
                f"the supervisor permits workers to administer the pool {setting}; its setting "
                "pool.workers_may_administer = true permits it to all"
            )
