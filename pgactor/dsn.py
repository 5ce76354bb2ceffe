"""Connection strings: a URI or `key=value` pairs, as libpq reads them -> options under libpq's own names.

No I/O: environment, service file and defaults are others' affair. What is said of a string that cannot be read never
quotes it, as the piece may be one of a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from .errors import ConfigError

SCHEMES = ("postgresql://", "postgres://")

_PAIR = re.compile(
    r"\s*(?P<name>[^\s=]*)\s*(?P<equals>=)?\s*"
    r"(?:'(?P<quoted>(?:[^'\\]|\\.)*)(?P<end>')|(?P<plain>(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def parse(dsn: str) -> dict[str, str]:
    """The options of a connection string. Several hosts or ports are separated by commas, in `host` and `port`.

    Raises `ConfigError` for what is neither a URI nor pairs.
    """
    for scheme in SCHEMES:
        if dsn.startswith(scheme):
            return _uri(dsn[len(scheme) :])
    if "://" in dsn and "=" not in dsn.partition("://")[0]:
        raise ConfigError("the dsn is expected to begin with postgresql:// or postgres://")
    return _pairs(dsn)


def split(text: str) -> list[str]:
    """The parts of an option that may have several, such as `host`."""
    return [part.strip() for part in text.split(",")]


def _uri(rest: str) -> dict[str, str]:
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    options: dict[str, str] = {}
    user, at, hosts = authority.partition("@")
    if not at:
        user, hosts = "", authority
    name, _, password = user.partition(":")
    found = {"user": _decode(name), "password": _decode(password), "dbname": _decode(path)}
    options.update({key: value for key, value in found.items() if value})
    if hosts:
        _hosts(hosts, options)
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigError(
                "the dsn's options are expected as name=value, with & between them, after the ?; a ? in a user name "
                "or password is expected to be percent-encoded, as %3F"
            )
        key, value = _decode(key), _decode(value)
        if (key, value) == ("ssl", "true"):  # JDBC's word, which libpq knows
            key, value = "sslmode", "require"
        options[_libpqs(key)] = value
    return options


def _hosts(text: str, options: dict[str, str]) -> None:
    """`[::1]:5433,db,%2Ftmp` -> host and port, each with as many parts."""
    hosts, ports = [], []
    for spec in text.split(","):
        if spec.startswith("["):
            host, bracket, port = spec[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise ConfigError("an IPv6 address in the dsn is expected as [address] or [address]:port")
            port = port[1:]
        else:
            host, _, port = spec.partition(":")
        hosts.append(_decode(host))
        ports.append(_decode(port))
    if any(hosts):
        options["host"] = ",".join(hosts)
    if any(ports):
        options["port"] = ",".join(ports)


def _pairs(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    at = 0
    text = text.strip()
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None or not (found["name"] and found["equals"]) or found.end() == at:
            raise ConfigError(
                "the dsn is expected as postgresql://user@host/database or as pairs: host=... dbname=...; a value "
                "with spaces in it is expected in single quotes"
            )
        at = found.end()
        if at < len(text) and not text[at].isspace():
            raise ConfigError("the dsn has a value whose quotes or backslashes do not end")
        value = found["quoted"] if found["end"] else found["plain"] or ""
        options[_libpqs(found["name"])] = _ESCAPED.sub(r"\1", value)
    return options


def _libpqs(name: str) -> str:
    return "dbname" if name == "database" else name  # asyncpg takes this one, too


def _decode(text: str) -> str:
    if _BROKEN_PERCENT.search(text):
        raise ConfigError(
            "the dsn has a % that begins no percent-encoded character: special characters are expected to be "
            "percent-encoded, a % as %25"
        )
    return unquote(text)
