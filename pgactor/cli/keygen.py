"""keygen: keys for tcp."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .. import keys
from ..errors import ConfigError


@click.group()
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
