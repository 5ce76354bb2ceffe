"""serve, demo: a supervisor in this process, or in one of its own for all to see."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import click

from .. import logs
from ..config.loading import load
from ..dsn import parse
from ..endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE
from ..errors import ConfigError, PgactorError


@click.command()
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
    from ..actors.supervisor import Supervisor
    from ..actors.supervisor import serve as run_supervisor

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


@click.command()
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
    from ..demo import run_demo

    _hide_password(dsn, "PGACTOR_DEMO_DSN")
    try:
        sound = run_demo(workers=workers, connections=connections, seconds=seconds, dsn=dsn)
    except PgactorError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if sound else 1)


def _hide_password(dsn: str | None, variable: str) -> None:
    """A password in the command line is there for all users of the machine to see: start again, in the same process,
    with the dsn in the environment. Does nothing for a dsn that has none, or came by another way."""
    given = [argument for argument in sys.orig_argv if dsn and argument in (dsn, f"--dsn={dsn}")]
    with suppress(ConfigError):  # which will be said
        if given and dsn is not None and not parse(dsn).keys().isdisjoint({"password", "sslpassword"}):
            arguments = [argument for argument in sys.orig_argv[1:] if argument not in ("--dsn", *given)]
            environment = {**os.environ, variable: dsn}
            os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606  # our own


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        asyncio.run(main())
    else:
        uvloop.run(main())
