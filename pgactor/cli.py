"""The command line: serve, query, status, top, dashboard, demo, keygen."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from . import keys, logs
from .config.loading import load
from .dsn import parse
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
@click.option("--server-key", help="For tcp outside of loopback: the file that `pgactor keygen server` made.")
@click.option("--client-keys", help="The directory of the keys that clients may have; see `pgactor keygen client`.")
@click.option(
    "--takeover",
    is_flag=True,
    help="Take over from the supervisor that serves the endpoints now, without a request lost.",
)
@click.option("--min-size", type=int, help="Connections to keep open.  [env var: PGACTOR_MIN_SIZE]")
@click.option("--max-size", type=int, help="Connections at most.  [env var: PGACTOR_MAX_SIZE]")
@click.option(
    "--metrics-endpoint",
    metavar="HOST:PORT",
    help="Where Prometheus and probes are answered.  [env var: PGACTOR_METRICS_ENDPOINT; default: nowhere]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object a line.",
)
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
    server_key: str | None,
    client_keys: str | None,
    min_size: int | None,
    max_size: int | None,
    takeover: bool,
    metrics_endpoint: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the supervisor. Prints a line that begins with `pgactor ready` once it accepts requests."""
    from .actors.supervisor import Supervisor
    from .actors.supervisor import serve as run_supervisor

    _hide_password(dsn, "PGACTOR_DSN")
    logs.set_up(log_level, as_json=log_format == "json")
    given = {
        ("connect", "dsn"): dsn,
        ("embedded",): embedded,
        ("endpoints",): list(endpoints) or None,
        ("curve", "server_key"): server_key,
        ("curve", "client_keys"): client_keys,
        ("pool", "min_size"): min_size,
        ("pool", "max_size"): max_size,
        ("metrics_endpoint",): metrics_endpoint,
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


_interval = click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds from one look at the supervisor to the next.",
)


@cli.command()
@click.option("--once", is_flag=True, help="Print one picture, of two looks, and end.")
@_interval
@_endpoint
@_pool
def top(once: bool, interval: float, endpoint: str, pool: str | None) -> None:
    """Watch connections, queue, leases and workers in the terminal; q ends it."""
    from .viewing import top as viewer

    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("this is no terminal: `pgactor top --once` prints a single picture")
    seen = True

    async def run() -> None:
        nonlocal seen
        if once:
            seen = await viewer.once(endpoint, pool, interval)
        else:
            await viewer.live(endpoint, pool, interval)

    _fail_clearly(lambda: asyncio.run(run()))
    sys.exit(0 if seen else 1)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0: any that is free.")
@_interval
@_endpoint
@_pool
def dashboard(host: str, port: int, interval: float, endpoint: str, pool: str | None) -> None:
    """Serve a web page of the same, with charts. It has no passwords: whoever reaches the address may look."""
    try:
        from .viewing.dashboard import serve as run_dashboard
    except ImportError as error:
        raise click.ClickException(f"{error}: pip install 'pgactor[dashboard]'") from None
    _fail_clearly(lambda: run_dashboard(endpoint, pool, host=host, port=port, interval=interval, ready=click.echo))


@cli.command()
@click.option("--workers", default=16, show_default=True, help="Worker processes.")
@click.option("--connections", default=4, show_default=True, help="The supervisor's max_size.")
@click.option("--seconds", default=12.0, show_default=True, help="How long they work.")
@click.option(
    "--dsn",
    envvar="PGACTOR_DEMO_DSN",
    help="A database of yours, instead of an embedded one. Tables pgactor_demo_* are made there.",
)
def demo(workers: int, connections: int, seconds: float, dsn: str | None) -> None:
    """Run a supervisor and many worker processes on a real PostgreSQL, kill one of them, and count what was lost."""
    from .demo import run_demo

    _hide_password(dsn, "PGACTOR_DEMO_DSN")
    try:
        sound = run_demo(workers=workers, connections=connections, seconds=seconds, dsn=dsn)
    except PgactorError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if sound else 1)


@cli.group()
def keygen() -> None:
    """Make keys for tcp. Files are for their owner alone (0600), and never overwritten."""


_directory = click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True, help="Where to."
)


@keygen.command("server")
@_directory
def keygen_server(directory: Path) -> None:
    """Make server.key, which is the supervisor's secret, and server.pub, which its clients are given."""
    public, secret = keys.new_pair()
    made = {
        directory
        / "server.key": f'# The supervisor\'s secret key.\nsecret_key = "{secret}"\npublic_key = "{public}"\n',
        directory / "server.pub": f'# The supervisor\'s public key, for its clients.\npublic_key = "{public}"\n',
    }
    _write_keys(made)


@keygen.command("client")
@click.argument("name")
@click.option("--pool", "pools", multiple=True, help="A pool that it may join; may be repeated. Default: all.")
@click.option("--read-only", is_flag=True, help="It may not write.")
@click.option("--may-administer", is_flag=True, help="It may resize pools and replace their connect arguments.")
@_directory
def keygen_client(name: str, pools: tuple[str, ...], read_only: bool, may_administer: bool, directory: Path) -> None:
    """Make NAME.key, which is the client's secret, and NAME.toml, for the supervisor's directory of client keys."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise click.ClickException(f"{name!r} is no name of a key: letters, digits, _ and - are expected")
    public, secret = keys.new_pair()
    permit = [f'public_key = "{public}"']
    if pools:
        permit.append(f"pools = {json.dumps(list(pools))}")
    permit += [f"read_only = {str(read_only).lower()}", f"may_administer = {str(may_administer).lower()}"]
    made = {
        directory / f"{name}.key": f'# The secret key of {name}.\nsecret_key = "{secret}"\npublic_key = "{public}"\n',
        directory / f"{name}.toml": f"# What {name} may do.\n" + "\n".join(permit) + "\n",
    }
    _write_keys(made)


def _write_keys(made: dict[Path, str]) -> None:
    try:
        keys.write_new(made)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"made {' and '.join(map(str, made))}")


def main() -> None:
    """The entry point of the `pgactor` command."""
    cli(prog_name="pgactor")


def _hide_password(dsn: str | None, variable: str) -> None:
    """A password in the command line is there for all users of the machine to see: start again, in the same process,
    with the dsn in the environment. Does nothing for a dsn that has none, or came by another way."""
    given = [argument for argument in sys.orig_argv if dsn and argument in (dsn, f"--dsn={dsn}")]
    with suppress(ConfigError):  # which will be said
        if given and dsn is not None and not parse(dsn).keys().isdisjoint({"password", "sslpassword"}):
            arguments = [argument for argument in sys.orig_argv[1:] if argument not in ("--dsn", *given)]
            environment = {**os.environ, variable: dsn}
            os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606  # our own


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
