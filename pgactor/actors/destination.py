"""Where to connect, and how: the settings of `[connect]`, joined with their dsn, a service, and libpq's environment.

What is said explicitly counts more than the dsn, the dsn more than the service, and that more than the environment.
Options that neither libpq nor asyncpg knows are the server's settings, as in asyncpg.
"""

from __future__ import annotations

import configparser
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from .. import dsn
from ..config.connect import DEFAULT_CONNECT_SECONDS, ConnectSettings
from ..errors import ConfigError
from . import keepalive

DEFAULT_HOSTS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp", "localhost")  # noqa: S108  # asyncpg's
DEFAULT_PORT = "5432"

TARGETS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
BALANCES = ("disable", "random")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

ENVIRONMENT = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "channel_binding": "PGCHANNELBINDING",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
"""libpq's variables that are looked at here; asyncpg itself looks at others (PGUSER, PGPASSWORD, PGDATABASE ...)."""

PASSED_ON = {
    "user": "user",
    "password": "password",
    "passfile": "passfile",
    "dbname": "database",
    "krbsrvname": "krbsrvname",
    "gsslib": "gsslib",
}
"""libpq's options, and what asyncpg calls them."""

TLS_OPTIONS = (
    *("sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
)
"""What asyncpg takes in a dsn only."""

ONLY = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "require_auth": ("",),
    "requirepeer": ("",),
    "replication": ("false", "off", "no", "0"),
    "sslcertmode": ("allow", "disable"),
    "sslcompression": ("0",),
    "sslcrldir": ("",),
    "sslsni": ("1",),
    "requiressl": ("0",),
}
"""Options of libpq's of which asyncpg can do only this; whoever wants more must not get less without a word."""

HANDLED = (
    *("host", "hostaddr", "port", "service", "servicefile", "target_session_attrs", "load_balance_hosts"),
    *("connect_timeout", "application_name", "fallback_application_name", "options", "sslmode"),
    *(*keepalive.OPTIONS, *PASSED_ON, *TLS_OPTIONS, *ONLY),
)
"""Options that are not the server's settings."""


class Host(NamedTuple):
    """One of the hosts. address: its IP address, where it is given and not to be looked up."""

    name: str
    port: int
    address: str | None = None

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket's folder."""
        return self.name.startswith("/")

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


class Destination(NamedTuple):
    """arguments: asyncpg's, but for host, port and target. seconds: for a whole attempt; address_seconds: for each
    address; None: no limit. shuffled: whether hosts and their addresses are tried in random order. socket_options: as
    socket.setsockopt takes them."""

    hosts: list[Host]
    arguments: dict[str, Any]
    target: str
    shuffled: bool
    seconds: float | None
    address_seconds: float | None
    socket_options: list[tuple[int, int, int]]

    def __repr__(self) -> str:
        return f"<Destination {', '.join(map(str, self.hosts))}>"  # passwords are among the arguments


def find(settings: ConnectSettings, *, environment: Mapping[str, str] = os.environ) -> Destination:
    """Where the settings lead. Raises `ConfigError` for what cannot be, and for certificates that are not there."""
    given = _given(settings)
    sources = [given, dsn.parse(settings.dsn) if settings.dsn else {}]
    variables = {name: environment[variable] for name, variable in ENVIRONMENT.items() if environment.get(variable)}
    service = _first("service", [*sources, variables])
    if service:
        sources.append(_service(service, _first("servicefile", [*sources, variables])))
    options = {name: value for source in reversed(sources) for name, value in source.items()}
    for name, value in variables.items():
        options.setdefault(name, value)
    for name, possible in ONLY.items():
        if options.get(name, possible[0]) not in possible:
            raise ConfigError(f"{name}={options[name]} cannot be kept to: asyncpg knows no {name}")
    address_seconds = _seconds("connect_timeout", options)
    return Destination(
        hosts=_hosts([*sources, variables]),
        arguments=_arguments(settings, options, environment),
        target=_one_of("target_session_attrs", options, TARGETS),
        shuffled=_one_of("load_balance_hosts", options, BALANCES) == "random",
        seconds=DEFAULT_CONNECT_SECONDS if settings.timeout is None and not address_seconds else settings.timeout,
        address_seconds=address_seconds,
        socket_options=keepalive.socket_options(options),
    )


def _given(settings: ConnectSettings) -> dict[str, str]:
    """What the settings say, as libpq would have it written."""
    found: dict[str, str] = {}
    for name in HANDLED:
        value = getattr(settings, "database" if name == "dbname" else name, None)
        if value is not None:
            several = value if isinstance(value, list) else [value]
            found[name] = ",".join(str(int(each)) if isinstance(each, bool) else str(each) for each in several)
    if settings.ssl is not None and settings.sslmode is not None:
        raise ConfigError("ssl and sslmode are two names of one setting: give one of them")
    if isinstance(settings.ssl, str):
        found["sslmode"] = settings.ssl
    return found


def _first(name: str, sources: list[dict[str, str]]) -> str | None:
    return next((source[name] for source in sources if source.get(name)), None)


def _hosts(sources: list[dict[str, str]]) -> list[Host]:
    """The hosts of the first source that has any, with its ports or those of one that counts more."""
    names: list[str] = list(DEFAULT_HOSTS)
    addresses: list[str] = []
    ports: list[str] = []
    for source in sources:
        ports = ports or dsn.split(source.get("port", "")) if source.get("port") else ports
        if source.get("host") or source.get("hostaddr"):
            addresses = dsn.split(source["hostaddr"]) if source.get("hostaddr") else []
            names = dsn.split(source["host"]) if source.get("host") else addresses
            break
    ports = ports or dsn.split(sources[-1].get("port", DEFAULT_PORT))
    if addresses and len(addresses) != len(names):
        raise ConfigError(f"{len(addresses)} hostaddr cannot be matched to {len(names)} hosts")
    if len(ports) not in (1, len(names)):
        raise ConfigError(f"{len(ports)} ports cannot be matched to {len(names)} hosts: give none, one or as many")
    ports = ports * len(names) if len(ports) == 1 else ports
    whole = [*addresses, *[""] * (len(names) - len(addresses))]
    return [
        Host(name or "localhost", _port(port), address or None)
        for name, port, address in zip(names, ports, whole, strict=True)
    ]


def _port(text: str) -> int:
    if not text:
        return int(DEFAULT_PORT)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise ConfigError(
            "ports are expected to be numbers from 1 to 65535 (is there a special character in the dsn's user name "
            "or password that is not percent-encoded?)"
        )
    return int(text)


def _one_of(name: str, options: dict[str, str], possible: tuple[str, ...]) -> str:
    value = options.get(name) or possible[0]
    if value not in possible:
        raise ConfigError(f"{name} is expected to be one of {', '.join(possible)}; got {value!r}")
    return value


def _seconds(name: str, options: dict[str, str]) -> float | None:
    """A time limit; None: none."""
    try:
        seconds = float(options.get(name) or 0)
    except ValueError:
        raise ConfigError(f"{name} is expected to be a number of seconds; got {options[name]!r}") from None
    return seconds if seconds > 0 else None  # libpq's zero and less mean that there is none


def _arguments(settings: ConnectSettings, options: dict[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    arguments = settings.arguments()
    for name in ("dsn", "host", "port", "timeout", "target_session_attrs", "service", "servicefile"):
        arguments.pop(name, None)
    for name, theirs in PASSED_ON.items():
        if name in options:
            arguments[theirs] = options[name]
    if settings.ssl is None or isinstance(settings.ssl, str):
        arguments |= _tls(options, environment)
    elif settings.ssl and (unused := [name for name in TLS_OPTIONS if options.get(name)]):
        raise ConfigError(f"ssl = true leaves {unused[0]} unused: give an sslmode in its place")
    arguments["server_settings"] = _server_settings(settings, options)
    return arguments


def _server_settings(settings: ConnectSettings, options: dict[str, str]) -> dict[str, str]:
    found = {name: value for name, value in options.items() if name not in HANDLED}
    if found.get("client_encoding") == "auto":
        del found["client_encoding"]  # that of a terminal
    name = options.get("application_name") or options.get("fallback_application_name") or "pgactor"
    found["application_name"] = name
    if options.get("options"):
        found["options"] = options["options"]
    return {**found, **(settings.server_settings or {})}


def _tls(options: dict[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The mode, and a dsn with what asyncpg takes in a dsn only."""
    found = {name: options[name] for name in TLS_OPTIONS if options.get(name)}
    mode = options.get("sslmode")
    if found.get("sslrootcert") == "system":
        found["sslrootcert"] = _system_certificates()
        mode = mode or "verify-full"
    if mode is not None and mode not in SSL_MODES:
        raise ConfigError(f"sslmode is expected to be one of {', '.join(SSL_MODES)}; got {mode!r}")
    verifies = mode in ("verify-ca", "verify-full")
    root = found.get("sslrootcert")
    if verifies and root is None and not _home(environment, "root.crt").exists():
        raise ConfigError(
            f"sslmode={mode} needs the certificates that the server's is to be verified by: give sslrootcert (or "
            "ca_file), a file of PEM certificates, or 'system'"
        )
    if mode != "disable":
        _check_files(found)
    arguments: dict[str, Any] = {} if mode is None else {"ssl": mode}
    if found:
        arguments["dsn"] = "postgresql://?" + urlencode(found)
    return arguments


def _system_certificates() -> str:
    path = ssl.get_default_verify_paths().cafile
    if path is None:
        raise ConfigError("sslrootcert=system: this system keeps no file of certificates; name one")
    return path


def _check_files(options: dict[str, str]) -> None:
    """Raise `ConfigError` if the certificates cannot be read: now, and not when the first connection is opened."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "sslrootcert" in options:
            context.load_verify_locations(cafile=options["sslrootcert"])
    except OSError as error:  # which an SSLError is
        raise ConfigError(f"sslrootcert: {options['sslrootcert']}: {_why(error)}") from None
    if "sslcert" in options:
        try:
            context.load_cert_chain(
                options["sslcert"], options.get("sslkey"), lambda: options.get("sslpassword", "").encode()
            )
        except OSError as error:
            files = ", ".join(options[name] for name in ("sslcert", "sslkey") if name in options)
            raise ConfigError(f"sslcert, sslkey: {files}: {_why(error)}") from None


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"it does not hold what is expected in PEM format ({error.reason or 'unreadable'})"
    return error.strerror or str(error)


def _home(environment: Mapping[str, str], name: str) -> Path:
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".postgresql" / name


def _service(name: str, file: str | None) -> dict[str, str]:
    """The options of a service, from libpq's service file."""
    path = Path(file) if file else Path.home() / ".pg_service.conf"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"service {name!r}: {path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        raise ConfigError(f"service {name!r}: {path} is no file of services") from None
    if name not in parser:
        raise ConfigError(f"service {name!r} is not in {path}")
    return {"dbname" if key == "database" else key: value for key, value in parser[name].items()}
