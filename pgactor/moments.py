"""Dates and naive datetimes as arguments: for a timestamptz they mean the time zone of the worker that gave them.

So they take an offset from UTC along, and in the supervisor they are of classes that use it: `WorkerDatetime` the
offset of that very moment, `WorkerDate` the one that the worker had when it asked. That is what asyncpg, running in
the worker, would make of either.
"""

from __future__ import annotations

import time as clock
from datetime import MINYEAR, UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from .standins import StandIn

M = TypeVar("M", time, datetime)


class WorkerDatetime(datetime, metaclass=StandIn, stands_for="datetime.datetime"):
    """A naive datetime that means the time zone of the worker it came from.

    `worker_offset` is the UTC offset it has there, None where it has none (next to datetime.min and max).
    """

    worker_offset: timedelta | None = None

    @classmethod
    def of(cls, moment: datetime) -> WorkerDatetime:
        """The wall clock time of `moment`, with its offset, if it has one, set aside."""
        self = cls.combine(moment.date(), moment.time())
        self.worker_offset = moment.utcoffset()
        return self

    def astimezone(self, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one
        """As datetime.astimezone(), but from the worker's time zone instead of this process's. Raises ValueError
        or OverflowError, as that does, where it has no offset, next to the ends of the calendar."""
        zone = self.tzinfo if self.worker_offset is None else timezone(self.worker_offset)
        if zone is None and self.year == MINYEAR:
            raise ValueError("year 0 is out of range")
        if zone is None:
            raise OverflowError("date value out of range")
        return datetime.combine(self.date(), self.time(), zone).astimezone(tz)

    def __repr__(self) -> str:
        return repr(datetime.combine(self.date(), self.timetz()))


class WorkerDate(datetime, metaclass=StandIn, stands_for="datetime.date"):
    """A date that, as a moment, means the midnight of the worker that it came from.

    It is a datetime for one reason: of those asyncpg asks the moment, whereas a date it converts by itself, by the
    time zone of the process. `day` aside, it has nothing that a date has not, and equals the same dates.
    """

    worker_offset: timedelta = timedelta()

    @classmethod
    def of(cls, day: date, offset: timedelta) -> WorkerDate:
        """The day, with the offset that the worker has now."""
        self = cls(day.year, day.month, day.day)
        self.worker_offset = offset
        return self

    def plain(self) -> date:
        """The date as such."""
        return date(self.year, self.month, self.day)

    def astimezone(self, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one
        """The midnight with which the day begins at the worker."""
        return datetime(self.year, self.month, self.day, tzinfo=timezone(self.worker_offset)).astimezone(tz)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, WorkerDate):
            return self.plain() == other.plain()
        return self.plain() == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.plain())

    def __repr__(self) -> str:
        return repr(self.plain())

    def __str__(self) -> str:
        return str(self.plain())

    def isoformat(self, *_: Any) -> str:
        """`YYYY-MM-DD`."""
        return str(self)


def _lacking(name: str) -> property:
    def lacks(self: WorkerDate) -> NoReturn:
        raise AttributeError(f"'datetime.date' object has no attribute {name!r}", name=name, obj=self.plain())

    return property(lacks)


for _name in ("hour", "minute", "second", "microsecond", "tzinfo", "fold"):
    setattr(WorkerDate, _name, _lacking(_name))


def date_here(day: date) -> str:
    """The text of a date, and of the offset from UTC that there is here and now."""
    return date.isoformat(day) + _offset_text(clock.localtime().tm_gmtoff)


def worker_date(text: str) -> WorkerDate:
    """What `date_here` made the text of. Raises ValueError if it did not."""
    return WorkerDate.of(date.fromisoformat(text[:10]), _offset(text[10:]))


def datetime_here(moment: datetime) -> str:
    """The text of a naive datetime, with the offset from UTC that it has here, if it has one."""
    moment = moment.replace(tzinfo=None)
    try:
        # Not astimezone().utcoffset(): in the hour that a change to summer time skips, that is the offset after
        # the change, whereas the conversion to UTC, which is what asyncpg asks for, uses the one before.
        offset = moment.replace(tzinfo=UTC) - moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return moment.isoformat()
    return moment.replace(tzinfo=timezone(offset)).isoformat()


def parse_time(text: str) -> time:
    """What `time.isoformat` made the text of."""
    return _with_offset(time.fromisoformat(text), text)


def parse_datetime(text: str) -> datetime:
    """What `datetime.isoformat` made the text of."""
    return _with_offset(datetime.fromisoformat(text), text)


def _with_offset(value: M, text: str) -> M:
    if text[-16:-6] in ("+00:00:00.", "-00:00:00."):  # fromisoformat() takes so small an offset for none
        return value.replace(tzinfo=timezone(timedelta(microseconds=int(text[-16] + text[-6:]))))
    return value


@lru_cache(64)
def _offset_text(seconds: int) -> str:
    return time(tzinfo=timezone(timedelta(seconds=seconds))).isoformat()[8:]


@lru_cache(64)
def _offset(text: str) -> timedelta:
    offset = time.fromisoformat("00:00:00" + text).utcoffset()
    if offset is None:
        raise ValueError(f"no offset: {text!r}")
    return offset
