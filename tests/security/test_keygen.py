"""`pgactor keygen`, and the files that it makes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pgactor import ConfigError, keys
from pgactor.actors.permits import Permits
from tests.security.conftest import keygen


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_supervisors_pair_is_two_files_for_their_owner_alone(short_tmp: Path) -> None:
    said = keygen("server", "--directory", str(short_tmp / "made"))
    secret, public = short_tmp / "made" / "server.key", short_tmp / "made" / "server.pub"
    assert str(secret) in said
    assert str(public) in said
    assert (mode(secret), mode(public), mode(secret.parent)) == (0o600, 0o600, 0o700)
    assert keys.public_keys(str(public)) == [keys.public_of(keys.secret_key(str(secret)))]
    assert keys.secret_key(str(secret)) not in said


def test_a_clients_pair_comes_with_its_permit(short_tmp: Path) -> None:
    keygen("client", "celery", "--pool", "a", "--pool", "b/*", "--read-only", "--directory", str(short_tmp))
    (permit,) = [Permits(str(short_tmp)).get(keys.public_of(keys.secret_key(str(short_tmp / "celery.key"))))]
    assert permit is not None
    assert (permit.name, permit.pools) == ("celery", ["a", "b/*"])
    assert (permit.read_only, permit.may_administer) == (True, False)
    assert mode(short_tmp / "celery.key") == mode(short_tmp / "celery.toml") == 0o600


@pytest.mark.parametrize("there", ["celery.key", "celery.toml"])
def test_nothing_is_overwritten_and_then_nothing_is_made(short_tmp: Path, there: str) -> None:
    (short_tmp / there).write_text("mine")
    said = keygen("client", "celery", "--directory", str(short_tmp), status=1)
    assert f"{short_tmp / there} is there already" in said
    assert [(path.name, path.read_text()) for path in short_tmp.iterdir()] == [(there, "mine")]


@pytest.mark.parametrize("name", ["../celery", "a b", "", "celery.key"])
def test_a_name_that_is_no_files_is_refused(short_tmp: Path, name: str) -> None:
    assert "is no name of a key" in keygen("client", name, "--directory", str(short_tmp), status=1)
    assert list(short_tmp.iterdir()) == []


def test_a_secret_that_everybody_can_read_is_refused_and_not_shown(short_tmp: Path) -> None:
    keygen("server", "--directory", str(short_tmp))
    secret = keys.secret_key(str(short_tmp / "server.key"))
    (short_tmp / "server.key").chmod(0o644)
    with pytest.raises(ConfigError, match="everybody can read this secret key: chmod 600") as caught:
        keys.secret_key(str(short_tmp / "server.key"))
    assert secret not in str(caught.value)


def test_a_key_that_others_can_write_is_refused(short_tmp: Path) -> None:
    keygen("server", "--directory", str(short_tmp))
    (short_tmp / "server.pub").chmod(0o666)
    with pytest.raises(ConfigError, match="others can write it"):
        keys.public_keys(str(short_tmp / "server.pub"))


@pytest.mark.parametrize("given", ["/no/such/file.key", "x" * 39, "x" * 39 + "~", "x" * 5000, "\0"])
def test_what_is_neither_a_file_nor_a_key_is_refused_and_a_secret_not_quoted(given: str) -> None:
    with pytest.raises(ConfigError, match="path of a file that `pgactor keygen` made") as caught:
        keys.secret_key(given)
    assert given not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("readonly = true", "unknown field `readonly`; did you mean `read_only`?"),
        ("zzz = 1", "unknown field `zzz`; expected are public_key, pools, read_only, may_administer"),
        ("name = 'root'", "unknown field `name`"),
        ("pools = 'default'", "Expected `array"),
        ("secret_key = 'x'", "it holds a secret key"),
    ],
)
def test_a_permit_with_a_mistake_is_refused_with_its_name(short_tmp: Path, line: str, words: str) -> None:
    keygen("client", "celery", "--directory", str(short_tmp))
    path = short_tmp / "celery.toml"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ConfigError, match=r"celery\.toml") as caught:
        Permits(str(short_tmp))
    assert words in str(caught.value)


def test_two_permits_of_one_key_are_refused(short_tmp: Path) -> None:
    keygen("client", "celery", "--directory", str(short_tmp))
    (short_tmp / "other.toml").write_text((short_tmp / "celery.toml").read_text())
    with pytest.raises(ConfigError, match="celery and other have the same key"):
        Permits(str(short_tmp))


def test_a_directory_that_others_can_write_is_refused(short_tmp: Path) -> None:
    (short_tmp / "permits").mkdir()
    (short_tmp / "permits").chmod(0o777)
    with pytest.raises(ConfigError, match="others can write it, and so could change the keys"):
        Permits(str(short_tmp / "permits"))


def test_a_file_that_breaks_later_leaves_what_it_said_in_force(
    short_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keygen("client", "celery", "--directory", str(short_tmp))
    permits = Permits(str(short_tmp))
    key = keys.public_of(keys.secret_key(str(short_tmp / "celery.key")))
    before = permits.get(key)
    (short_tmp / "celery.toml").write_text("public_key = ")
    permits.look_again()
    assert permits.get(key) == before
    assert "celery.toml: not valid TOML" in caplog.text
    (short_tmp / "celery.toml").unlink()
    permits.look_again()
    assert permits.get(key) is None


def test_a_name_that_is_too_long_for_a_file_is_said(short_tmp: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        keys.write_new({short_tmp / ("x" * 300): ""})


def test_a_home_of_nobody_is_no_place_for_a_key() -> None:
    with pytest.raises(ConfigError, match="is expected to be the path of a file"):
        keys.secret_key("~nobody_of_this_name/celery.key")
