"""The command line. Each module has the commands of one kind; what they run is imported when it is needed."""

from __future__ import annotations

import click

from ..version import __version__
from .keygen import keygen
from .looking import dashboard, query, status, top
from .operating import drain, pause, resume
from .serving import demo, serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgactor")
def cli() -> None:
    """One PostgreSQL pool for all the processes of an application."""


for command in (serve, demo, query, status, top, dashboard, pause, resume, drain, keygen):
    cli.add_command(command)


def main() -> None:
    """The entry point of the `pgactor` command."""
    cli(prog_name="pgactor")
