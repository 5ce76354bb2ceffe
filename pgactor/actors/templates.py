"""A template: pools that differ in the database or the user they connect to, and in nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from ..config.tables import TemplateTable
from ..errors import ConfigError, PoolError

LONGEST_NAME = 63
"""How many bytes of a name PostgreSQL heeds."""

_PLACES = ("user", "database")
_PLACE = re.compile(r"\{(user|database)\}")


class Template:
    """Makes the settings of such a pool.

    Raises `ConfigError` if its connect settings have no place for a name.
    """

    def __init__(self, name: str, table: TemplateTable) -> None:
        self.name = name
        self.max_pools = table.max_pools
        self.idle_seconds = table.pool_idle_seconds
        self._table = table
        connect = table.connect
        texts = (table.dsn, connect.dsn, connect.user, connect.database)
        self._places = [place for place in _PLACES if any(f"{{{place}}}" in (text or "") for text in texts)]
        if not self._places:
            raise ConfigError(
                f"[templates.{name}]: its dsn, user or database is expected to contain {{database}} or {{user}}"
            )

    @property
    def example(self) -> str:
        """How its pools are asked for."""
        return f"{self.name}/{'@'.join(place.upper() for place in self._places)}"

    def table_for(self, part: str) -> TemplateTable:
        """The settings of the pool NAME/part. Raises `PoolError` for a part that cannot be a name."""
        names = part.rpartition("@")[::2] if len(self._places) == 2 else (part,)
        for name in names:
            if not 0 < len(name.encode()) <= LONGEST_NAME or not name.isprintable():
                raise PoolError(
                    f"{f'{self.name}/{part[:200]}'!r} is no pool of the template {self.name!r}: {self.example} is "
                    f"expected, with names of at most {LONGEST_NAME} bytes"
                )
        given = dict(zip(self._places, names, strict=True))
        table, connect = self._table, self._table.connect

        def fill(text: str | None, written: Callable[[str], str] = str) -> str | None:
            return text and _PLACE.sub(lambda found: written(given.get(found[1], found[0])), text)

        return msgspec.structs.replace(
            table,
            dsn=fill(table.dsn, _writer(table.dsn)),
            connect=msgspec.structs.replace(
                connect,
                dsn=fill(connect.dsn, _writer(connect.dsn)),
                user=fill(connect.user),
                database=fill(connect.database),
            ),
        )


def _writer(dsn: str | None) -> Callable[[str], str]:
    """How a name is written in such a dsn: a URI, or key=value."""
    if dsn is None or "://" in dsn:
        return lambda name: quote(name, safe="")
    return lambda name: "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
