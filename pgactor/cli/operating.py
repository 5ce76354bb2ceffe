"""pause, resume, drain: a supervisor is told what to do."""

from __future__ import annotations

import click

from .common import CONNECT_SECONDS, endpoint_option, fail_clearly

_pools = click.option(
    "--pool", "pools", metavar="NAME", multiple=True, help="Which of its pools; may be repeated; default: all."
)


@click.command()
@click.option("--timeout", type=float, help="Seconds to wait until nothing runs; default: for ever.")
@endpoint_option
@_pools
def pause(timeout: float | None, endpoint: str, pools: tuple[str, ...]) -> None:
    """Let new requests wait, and return when nothing runs and no lease is held. `resume` undoes it."""
    from ..client.operator import pause

    fail_clearly(lambda: pause(endpoint, list(pools) or None, timeout, connect_timeout=CONNECT_SECONDS))


@click.command()
@endpoint_option
@_pools
def resume(endpoint: str, pools: tuple[str, ...]) -> None:
    """Serve again what `pause` has kept waiting."""
    from ..client.operator import resume

    fail_clearly(lambda: resume(endpoint, list(pools) or None, connect_timeout=CONNECT_SECONDS))


@click.command()
@endpoint_option
@_pools
def drain(endpoint: str, pools: tuple[str, ...]) -> None:
    """Have the supervisor finish and end, as SIGTERM does; with --pool: have those pools finish and end."""
    from ..client.operator import drain

    fail_clearly(lambda: drain(endpoint, list(pools) or None, connect_timeout=CONNECT_SECONDS))
