"""The command line: serve, query, status, demo."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
import msgspec

from .config.loading import load
from .endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, POOL_VARIABLE
from .errors import ConfigError, PgactorError
from .version import __version__

CONNECT_SECONDS = 3.0
"""How long a command waits for a supervisor: somebody looks on."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgactor")
def cli() -> None:
    """One PostgreSQL pool for all the processes of an application."""


_endpoint = click.option(
    "--endpoint",
    default=DEFAULT_ENDPOINT,
    envvar=ENDPOINT_VARIABLE,
    show_default=True,
    show_envvar=True,
    help="The supervisor: ipc:///path/to.sock or tcp://127.0.0.1:PORT.",
)
_pool = click.option(
    "--pool", metavar="NAME", envvar=POOL_VARIABLE, show_envvar=True, help="Which of its pools; default: the first."
)


@cli.command()
@click.option("--config", "path", type=click.Path(dir_okay=False), help="Settings, as TOML.")
@click.option("--dsn", help="The database, as postgresql://user@host/name.  [env var: PGACTOR_DSN]")
@click.option(
    "--embedded",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Start a PostgreSQL of its own, with its data in DIR, or in a temporary folder.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    help=f"Where workers connect; may be repeated.  [env var: {ENDPOINT_VARIABLE}; default: {DEFAULT_ENDPOINT}]",
)
@click.option(
    "--takeover",
    is_flag=True,
    help="Take over from the supervisor that serves the endpoints now, without a request lost.",
)
@click.option("--min-size", type=int, help="Connections to keep open.  [env var: PGACTOR_MIN_SIZE]")
@click.option("--max-size", type=int, help="Connections at most.  [env var: PGACTOR_MAX_SIZE]")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
)
def serve(
    path: str | None,
    dsn: str | None,
    embedded: str | None,
    endpoints: tuple[str, ...],
    min_size: int | None,
    max_size: int | None,
    takeover: bool,
    log_level: str,
) -> None:
    """Run the supervisor. Prints a line that begins with `pgactor ready` once it accepts requests."""
    from .actors.supervisor import Supervisor
    from .actors.supervisor import serve as run_supervisor

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    given = {
        ("connect", "dsn"): dsn,
        ("embedded",): embedded,
        ("endpoints",): list(endpoints) or None,
        ("pool", "min_size"): min_size,
        ("pool", "max_size"): max_size,
    }
    overrides = {keys: value for keys, value in given.items() if value is not None}
    try:
        settings = load(path, overrides=overrides)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None

    def ready(supervisor: Supervisor) -> None:
        sizes = "".join(f", {name} {table.max_size}" for name, table in settings.pools.items())
        place = f", in the place of pid {supervisor.predecessor}" if supervisor.predecessor else ""
        where = ", ".join(supervisor.endpoints)
        click.echo(f"pgactor ready at {where} (max_size {settings.pool.max_size}{sizes}){place}")
        sys.stdout.flush()

    try:
        _run(
            lambda: run_supervisor(
                settings, ready=ready, load=lambda: load(path, overrides=overrides), take_over=takeover
            )
        )
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("sql")
@click.argument("args", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per row.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@_endpoint
@_pool
def query(sql: str, args: tuple[str, ...], as_json: bool, timeout: float, endpoint: str, pool: str | None) -> None:
    """Run one SQL statement; further arguments are $1, $2 ..., as text: cast them where another type is needed."""
    from rich.console import Console
    from rich.table import Table

    from .client.sync import Client

    def run() -> None:
        with Client(endpoint, connect_timeout=CONNECT_SECONDS, label="pgactor query", pool=pool) as client:
            rows = client.fetch(sql, *args, timeout=timeout)
        if as_json:
            for row in rows:
                click.echo(json.dumps(dict(row), default=str))
            return
        if not rows:
            click.echo("(0 rows)")
            return
        table = Table()
        for name in rows[0].keys():  # noqa: SIM118  # a Record is asked for names by keys()
            table.add_column(name)
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row))
        Console(soft_wrap=True).print(table, markup=False)
        click.echo(f"({len(rows)} row{'s' if len(rows) != 1 else ''})")

    _fail_clearly(run)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
@_endpoint
@_pool
def status(as_json: bool, endpoint: str, pool: str | None) -> None:
    """Show connections, workers, leases and counters."""
    from .client.sync import Client
    from .display import show_status

    def run() -> None:
        with Client(endpoint, connect_timeout=CONNECT_SECONDS, label="pgactor status", pool=pool) as client:
            state = client.status()
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(state), indent=2))
        else:
            show_status(state)

    _fail_clearly(run)


_pools = click.option(
    "--pool", "pools", metavar="NAME", multiple=True, help="Which of its pools; may be repeated; default: all."
)


@cli.command()
@click.option("--timeout", type=float, help="Seconds to wait until nothing runs; default: for ever.")
@_endpoint
@_pools
def pause(timeout: float | None, endpoint: str, pools: tuple[str, ...]) -> None:
    """Let new requests wait, and return when nothing runs and no lease is held. `resume` undoes it."""
    from .client.operator import pause

    _fail_clearly(lambda: pause(endpoint, list(pools) or None, timeout, connect_timeout=CONNECT_SECONDS))


@cli.command()
@_endpoint
@_pools
def resume(endpoint: str, pools: tuple[str, ...]) -> None:
    """Serve again what `pause` has kept waiting."""
    from .client.operator import resume

    _fail_clearly(lambda: resume(endpoint, list(pools) or None, connect_timeout=CONNECT_SECONDS))


@cli.command()
@_endpoint
@_pools
def drain(endpoint: str, pools: tuple[str, ...]) -> None:
    """Have the supervisor finish and end, as SIGTERM does; with --pool: have those pools finish and end."""
    from .client.operator import drain

    _fail_clearly(lambda: drain(endpoint, list(pools) or None, connect_timeout=CONNECT_SECONDS))


@cli.command()
@click.option("--workers", default=16, show_default=True, help="Worker processes.")
@click.option("--connections", default=4, show_default=True, help="The supervisor's max_size.")
@click.option("--seconds", default=12.0, show_default=True, help="How long they work.")
@click.option("--dsn", help="A database of yours, instead of an embedded one. Tables pgactor_demo_* are made there.")
def demo(workers: int, connections: int, seconds: float, dsn: str | None) -> None:
    """Run a supervisor and many worker processes on a real PostgreSQL, kill one of them, and count what was lost."""
    from .demo import run_demo

    try:
        sound = run_demo(workers=workers, connections=connections, seconds=seconds, dsn=dsn)
    except PgactorError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if sound else 1)


def main() -> None:
    """The entry point of the `pgactor` command."""
    cli(prog_name="pgactor")


def _fail_clearly(run: Callable[[], None]) -> None:
    """Say in one line what went wrong; the statement's own errors among it."""
    try:
        run()
    except Exception as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from None


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        asyncio.run(main())
    else:
        uvloop.run(main())
