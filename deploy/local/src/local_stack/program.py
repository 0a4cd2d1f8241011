"""One replica of one of our services."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local_stack.errors import Unhealthy
from local_stack.folder import StateFolder
from local_stack.layout import OPERATOR_ROLE, Service
from local_stack.part import Part
from local_stack.ports import HOST, PortBook

_TIMEOUT_S = 3.0


class Program(Part):
    """`python -m <module>` with its settings in the environment and its health on /readyz."""

    stop_grace_s = 12.0  # a service finishes its chunk within 10 s

    def __init__(
        self,
        service: Service,
        number: int,
        folder: StateFolder,
        ports: PortBook,
        addresses: Callable[[], Mapping[str, str]],
    ) -> None:
        """`addresses` gives what the infrastructure's parts say of themselves."""
        super().__init__(f"{service.name}-{number}", folder, ports)
        self._service = service
        self._number = number
        self._addresses = addresses
        self._port = 0
        self._listens: dict[str, int] = {}

    @property
    def port_names(self) -> tuple[str, ...]:
        return (self.name, *(self._port_name(what) for what in self._service.listens))

    @property
    def folder(self) -> Path:
        return self.state_folder.part_folder(f"services/{self.name}")

    async def prepare(self) -> None:
        self._port = self.ports.claim(self.name)
        self._listens = {
            what: self.ports.claim(self._port_name(what)) for what in self._service.listens
        }

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", self._service.module, *self._service.arguments)

    def environment(self) -> Mapping[str, str]:
        shared = dict(self._addresses())
        # No service is handed what could reach another's schema.
        for secret in ("ADMIN_DATABASE_URL", "ROLE_PASSWORD"):
            shared.pop(secret, None)
        if not self._service.role:  # the edge, which asks services alone
            for name in ("DATABASE_URL", "GATEWAY_API_KEY", "GATEWAY_WEBHOOK_SECRET"):
                shared.pop(name, None)
        if "DATABASE_URL" in shared:
            shared["DATABASE_URL"] = shared["DATABASE_URL"].replace(
                f"://{OPERATOR_ROLE}:", f"://{self._service.role}:", 1
            )
        return {
            **shared,
            "INSTANCE_ID": self.name,
            "ADMIN_HOST": HOST,
            "ADMIN_PORT": str(self._port),
            **{f"{what}_HOST": HOST for what in self._listens},
            **{f"{what}_PORT": str(port) for what, port in self._listens.items()},
            **{
                setting: f"http://{HOST}:{self.ports.expected(f'{name}-0')}"
                for setting, name in self._service.calls.items()
            },
            "PYTHONUNBUFFERED": "1",
            **self._service.environment,
        }

    async def probe(self) -> None:
        await require_ready(self._port)

    def addresses(self) -> Mapping[str, str]:
        found = {
            f"{what}_URL_{variable(self.name)}": f"http://{HOST}:{port}"
            for what, port in {"ADMIN": self._port, **self._listens}.items()
        }
        if "HTTP" in self._listens and self._number == 0:
            found[f"{variable(self._service.name)}_URL"] = f"http://{HOST}:{self._listens['HTTP']}"
        return found

    def _port_name(self, what: str) -> str:
        """As it stands in the port book."""
        return f"{self.name}-{what.lower()}"


async def require_ready(port: int) -> None:
    """Raises Unhealthy, OSError or TimeoutError unless /readyz says yes."""
    status, body = await get(port, "/readyz")
    if status != 200:
        raise Unhealthy(f"/readyz answers {status}: {body[:500]}")


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on this machine. Raises OSError, TimeoutError or Unhealthy."""
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = (await reader.read()).decode(errors="replace")
        finally:
            writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    words = head.split(" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise Unhealthy(f"{path} got no HTTP answer")
    return int(words[1]), body


def variable(part: str) -> str:
    """The part's name as it stands in an environment variable: `stock-0` is `STOCK_0`."""
    return part.upper().replace("-", "_")
