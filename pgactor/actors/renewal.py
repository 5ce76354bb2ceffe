"""What a session's users leave behind in it, and how it is made new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from .hooks import Hook
from .identifiers import quoted

if TYPE_CHECKING:
    from .session import Session

RESET_QUERY = (
    "SELECT pg_catalog.pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; SET SESSION AUTHORIZATION DEFAULT; "
    "RESET ALL; DISCARD TEMP; DISCARD SEQUENCES"
)
"""What makes a session new: PostgreSQL's DISCARD ALL without what would take asyncpg's prepared statements away."""

_SQL_PREPARED = "SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql"


class Renewal:
    """Makes one session as new as a fresh one, time and again."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sql_prepared: Any = None

    async def renew(self, reset: Hook | None = None) -> None:
        """Make the session as new as a fresh one, whatever was done in it.

        Beyond asyncpg's reset: temporary tables, SQL's PREPARE, SET ROLE and sequence values do not survive, and
        asyncpg's own prepared statements are found out to be gone after a DEALLOCATE ALL.

        reset: what to call in the place of all this, once the session is out of any transaction.
        """
        session = self._session
        await session.quiet()
        rollback = "ROLLBACK; " if session.is_in_transaction() else ""
        if reset is not None:
            if rollback:
                await session.execute(rollback)
            await reset(session)
            return
        await session.execute(rollback + RESET_QUERY)
        session.expect_no_notifications()
        for record in await self._prepared_by_sql():
            await session.execute(f"DEALLOCATE {quoted(record[0])}")
        await session.close_unheld()

    async def watch_prepared(self) -> None:
        """Prepare the query for SQL's own prepared statements. That it is gone later tells of a DEALLOCATE ALL; so
        it is prepared before anyone can have run one, and never falls out of a cache."""
        self._sql_prepared = await self._session.prepare(_SQL_PREPARED)
        await self._sql_prepared.fetch()  # or asyncpg would look up its types at the first reset

    async def _prepared_by_sql(self) -> list[Any]:
        """What PREPARE left behind."""
        if self._sql_prepared is None:  # asyncpg keeps no statements here that could be lost
            return await self._session.fetch(_SQL_PREPARED)
        try:
            found: list[Any] = await self._sql_prepared.fetch()
        except asyncpg.InvalidSQLStatementNameError:
            self._session.forget_statements()
            await self.watch_prepared()
            found = await self._sql_prepared.fetch()
        return found
