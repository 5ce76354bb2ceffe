"""What commands have in common: how a supervisor is named, and how errors are told."""

from __future__ import annotations

from collections.abc import Callable

import click

from ..endpoint import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, POOL_VARIABLE

CONNECT_SECONDS = 3.0
"""How long a command waits for a supervisor: somebody looks on."""

endpoint_option = click.option(
    "--endpoint",
    default=DEFAULT_ENDPOINT,
    envvar=ENDPOINT_VARIABLE,
    show_default=True,
    show_envvar=True,
    help="The supervisor: ipc:///path/to.sock or tcp://127.0.0.1:PORT.",
)
pool_option = click.option(
    "--pool", metavar="NAME", envvar=POOL_VARIABLE, show_envvar=True, help="Which of its pools; default: the first."
)


def fail_clearly(run: Callable[[], None]) -> None:
    """Say in one line what went wrong; the statement's own errors among it."""
    try:
        run()
    except Exception as error:
        raise click.ClickException(f"{type(error).__name__}: {error}") from None
