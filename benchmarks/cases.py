"""The scenarios: who is compared, with how much of what."""

from __future__ import annotations

from dataclasses import dataclass

BACKENDS = 8


@dataclass(frozen=True)
class Contender:
    """Who is measured in a case. peer: its name in PEERS, or among the scripts of fresh.py. backends: PostgreSQL's
    connections in all. idle: workers that are connected and ask nothing, besides."""

    name: str
    peer: str
    backends: int = BACKENDS
    idle: int = 0


@dataclass(frozen=True)
class Case:
    """One comparison. contenders: the first is measured next to each other one. rate: requests per second of all
    processes together, None for as fast as they can; capacities: that rate, in capacities of one core. longer: than
    other cases' runs, so many times. warm_up: seconds at least. headline: the figure that its chart shows.
    asked_for: run only if it is named."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    processes: int = 1
    in_flight: int = 1
    work: str = "look-up"
    rate: float | None = None
    capacities: float | None = None
    pinned: bool = False
    memory: bool = False
    fresh: bool = False
    longer: int = 1
    warm_up: float = 0.0
    headline: str = "per_second"
    asked_for: bool = False


@dataclass(frozen=True)
class Ratio:
    """A figure of the case's first contender divided by another's, or of two named ones."""

    case: str
    theirs: str
    figure: str


def _peers(*names: str) -> tuple[Contender, ...]:
    return tuple(Contender(name.removesuffix(" (sync)"), name) for name in names)


_CORE = _peers(
    "pgactor", "PgBouncer + asyncpg", "PgBouncer + asyncpg.Pool", "asyncpg.Pool", "asyncpg.Pool, no reset"
)  # fmt: skip
_ALL = (*_CORE, *_peers("asyncpg", "PgBouncer + psycopg", "psqlpy", "psycopg_pool", "psycopg"))
_SYNC = _peers(
    "pgactor.Client", "PgBouncer + psycopg (sync)", "PgBouncer + psycopg_pool (sync)", "psycopg (sync)",
    "psycopg_pool (sync)",
)  # fmt: skip
_SLOW = _CORE[:4]


def _lookups(processes: int, in_flight: int, contenders: tuple[Contender, ...]) -> Case:
    shape = f"{processes}x{in_flight}"
    title = f"look-ups by key, asyncio, {_counted(processes)} x {in_flight} in flight"
    return Case(f"a {shape}", title, contenders, processes, in_flight)


def _sync_lookups(processes: int) -> Case:
    contenders = _SYNC if processes in (1, 16) else _SYNC[:3]
    return Case(f"b {processes}", f"look-ups by key, blocking code, {_counted(processes)}", contenders, processes)


def _counted(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def _overload(capacities: int) -> Case:
    return Case(
        f"g {capacities}x",
        f"overload: {capacities} times what one core can do is asked for; callers wait 1 s",
        _CORE[:4],
        processes=2,
        in_flight=64,
        work="heavy",
        capacities=capacities,
        pinned=True,
        longer=2,
        warm_up=2.5,
        headline="goodput_per_cpu_second",
    )


def _slow_mix(name: str, title: str, work: str, *, asked_for: bool = False) -> Case:
    return Case(name, title, _SLOW, processes=4, in_flight=64, work=work, rate=1000, longer=3,
                headline="p99_ms", asked_for=asked_for)  # fmt: skip


CASES: tuple[Case, ...] = (
    _lookups(1, 1, _CORE),
    _lookups(4, 8, _CORE[:4]),
    _lookups(4, 32, _ALL),
    Case(
        "a 4x32 on 2",
        "look-ups by key, asyncio, 4 processes x 32 in flight, pgactor with 2 server connections",
        (Contender("pgactor on 2", "pgactor", backends=2), *_peers("PgBouncer + asyncpg")),
        processes=4,
        in_flight=32,
    ),
    _lookups(8, 64, _CORE[:4]),
    *(_sync_lookups(processes) for processes in (1, 4, 16, 32)),
    Case(
        "c",
        "10 000 rows of 5 columns, one request at a time",
        _peers("pgactor", "asyncpg", "PgBouncer + asyncpg", "psqlpy", "psycopg"),
        work="range",
    ),
    Case(
        "d 4x8",
        "pgbench's TPC-B transaction, 4 processes x 8 in flight",
        (
            Contender("pgactor, as batch", "pgactor"),
            *_peers("PgBouncer + asyncpg", "PgBouncer + asyncpg.Pool", "PgBouncer + psycopg", "pgactor, as lease",
                    "asyncpg.Pool", "asyncpg", "psqlpy", "psycopg"),
        ),
        processes=4,
        in_flight=8,
        work="transfer",
    ),
    Case(
        "e",
        "the first row of a fresh process",
        _peers("pgactor.Client", "PgBouncer + psycopg", "PgBouncer + asyncpg", "pgactor.AsyncClient", "asyncpg",
               "psycopg", "psqlpy"),
        fresh=True,
        headline="p50_ms",
    ),
    Case(
        "f",
        "200 idle workers beside 20 that ask 1000 times a second in all",
        tuple(Contender(peer.name, peer.peer, idle=200) for peer in _CORE[:4]),
        processes=20,
        in_flight=4,
        rate=1000,
        memory=True,
        longer=2,
        warm_up=1.5,
        headline="p99_ms",
    ),
    _overload(2),
    _overload(10),
    _slow_mix("h", "slow statements beside 850 look-ups a second: p99 of the look-ups", "mix"),
    _slow_mix("h sleep", "5 % pg_sleep beside look-ups", "mix: sleep", asked_for=True),
    _slow_mix("h argument", "a text made slow by its argument, beside look-ups", "mix: argument", asked_for=True),
    _slow_mix("h lock", "updates that meet a locked row, beside look-ups", "mix: lock", asked_for=True),
    Case(
        "i",
        "the supervisor's CPU per look-up, 4 processes x 32 in flight: 496 idle workers connected, and none",
        (Contender("pgactor, 496 idle", "pgactor", idle=496), Contender("pgactor, none idle", "pgactor")),
        processes=4,
        in_flight=32,
        headline="pool_us",
    ),
)  # fmt: skip

RATIOS: tuple[Ratio, ...] = (
    Ratio("a 4x32", "PgBouncer + asyncpg", "per_second"),
    Ratio("a 4x32", "PgBouncer + asyncpg", "p99_ms"),
    Ratio("a 4x32", "PgBouncer + asyncpg.Pool", "per_second"),
    Ratio("a 4x32", "PgBouncer + asyncpg.Pool", "p99_ms"),
    Ratio("a 4x32", "asyncpg.Pool", "per_second"),
    Ratio("a 4x32", "asyncpg.Pool", "p99_ms"),
    Ratio("a 8x64", "PgBouncer + asyncpg", "per_second"),
    Ratio("a 8x64", "PgBouncer + asyncpg", "p99_ms"),
    Ratio("a 4x32 on 2", "PgBouncer + asyncpg", "per_second"),
    Ratio("a 4x32 on 2", "PgBouncer + asyncpg", "p99_ms"),
    Ratio("b 1", "PgBouncer + psycopg", "p50_ms"),
    *(
        Ratio(f"b {processes}", "PgBouncer + psycopg", figure)
        for processes in (4, 16, 32)
        for figure in ("per_second", "p99_ms")
    ),
    Ratio("b 16", "PgBouncer + psycopg_pool", "per_second"),
    Ratio("b 16", "PgBouncer + psycopg_pool", "p99_ms"),
    Ratio("a 1x1", "asyncpg.Pool", "p50_ms"),
    Ratio("c", "asyncpg", "p50_ms"),
    Ratio("d 4x8", "PgBouncer + asyncpg", "per_second"),
    Ratio("h", "PgBouncer + asyncpg", "p99_ms"),
    Ratio("i", "pgactor, none idle", "pool_us"),
)


def chosen(names: tuple[str, ...]) -> list[Case]:
    """The cases that are named, by letter or in full; without names all but those that are to be asked for."""
    if not names:
        return [case for case in CASES if not case.asked_for]
    return [case for case in CASES if case.name in names or (not case.asked_for and case.name.split()[0] in names)]
