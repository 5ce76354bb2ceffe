"""query, status, top, dashboard: what is in the database, and in the supervisor."""

from __future__ import annotations

import asyncio
import json
import sys

import click
import msgspec

from .common import CONNECT_SECONDS, endpoint_option, fail_clearly, pool_option


@click.command()
@click.argument("sql")
@click.argument("args", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per row.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@endpoint_option
@pool_option
def query(sql: str, args: tuple[str, ...], as_json: bool, timeout: float, endpoint: str, pool: str | None) -> None:
    """Run one SQL statement; further arguments are $1, $2 ..., as text: cast them where another type is needed."""
    from rich.console import Console
    from rich.table import Table

    from ..client.sync import Client

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

    fail_clearly(run)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
@endpoint_option
@pool_option
def status(as_json: bool, endpoint: str, pool: str | None) -> None:
    """Show connections, workers, leases and counters."""
    from ..client.sync import Client
    from ..display import show_status

    def run() -> None:
        with Client(endpoint, connect_timeout=CONNECT_SECONDS, label="pgactor status", pool=pool) as client:
            state = client.status()
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(state), indent=2))
        else:
            show_status(state)

    fail_clearly(run)


_interval = click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds from one look at the supervisor to the next.",
)


@click.command()
@click.option("--once", is_flag=True, help="Print one picture, of two looks, and end.")
@_interval
@endpoint_option
@pool_option
def top(once: bool, interval: float, endpoint: str, pool: str | None) -> None:
    """Watch connections, queue, leases and workers in the terminal; q ends it."""
    from ..viewing import top as viewer

    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("this is no terminal: `pgactor top --once` prints a single picture")
    seen = True

    async def run() -> None:
        nonlocal seen
        if once:
            seen = await viewer.once(endpoint, pool, interval)
        else:
            await viewer.live(endpoint, pool, interval)

    fail_clearly(lambda: asyncio.run(run()))
    sys.exit(0 if seen else 1)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0: any that is free.")
@_interval
@endpoint_option
@pool_option
def dashboard(host: str, port: int, interval: float, endpoint: str, pool: str | None) -> None:
    """Serve a web page of the same, with charts. It has no passwords: whoever reaches the address may look."""
    try:
        from ..viewing.dashboard import serve as run_dashboard
    except ImportError as error:
        raise click.ClickException(f"{error}: pip install 'pgactor[dashboard]'") from None
    fail_clearly(lambda: run_dashboard(endpoint, pool, host=host, port=port, interval=interval, ready=click.echo))
