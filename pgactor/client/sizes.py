"""How large the pool is, in asyncpg.Pool's words."""

from __future__ import annotations

from abc import abstractmethod

from ..messages.pool import PoolStatus


class Sizes:
    """asyncpg.Pool's getters. The numbers are of the supervisor's pool, which all workers share."""

    def get_size(self) -> int:
        """How many connections there are now."""
        status = self._known_status()
        return 0 if status is None else status.size

    def get_idle_size(self) -> int:
        """How many of them nobody uses now."""
        status = self._known_status()
        return 0 if status is None else status.idle

    def get_min_size(self) -> int:
        """How many are kept open when nobody needs them."""
        status = self._known_status()
        return 0 if status is None else status.min_size

    def get_max_size(self) -> int:
        """How many there may be."""
        status = self._known_status()
        return 0 if status is None else status.max_size

    def get_init_size(self) -> int:
        """How many the supervisor opens when it starts."""
        status = self._known_status()
        return 0 if status is None else status.init_size

    @abstractmethod
    def _known_status(self) -> PoolStatus | None:
        """The state of the pool as it is known here; None: it is not."""
