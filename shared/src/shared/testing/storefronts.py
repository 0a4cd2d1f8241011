"""The storefront as a process of a test's own: an instance that has an HTTP port as well.

storefront = Storefront("storefront-0", settings, folder=tmp_path)
await storefront.start()
async with storefront.http() as client:
    await client.get("/api/products")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx

from shared.testing.ports import ReservedPort
from shared.testing.processes import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANSWER_WITHIN_S: Final = 60.0
"""Longer than any answer takes; the machine may be busy."""


class Storefront(Instance):
    """Killed and restarted at will: its ports stay."""

    def __init__(self, instance_id: str, environment: Mapping[str, str], *, folder: Path) -> None:
        """`environment` is all the settings; instance id and ports are added."""
        self._http_port = ReservedPort()
        ports = {"HTTP_PORT": str(self._http_port.port)}
        super().__init__("storefront.main", instance_id, dict(environment) | ports, folder=folder)

    @property
    def port(self) -> int:
        """Of HTTP."""
        return self._http_port.port

    @property
    def url(self) -> str:
        """Where the routes of users are."""
        return f"http://127.0.0.1:{self.port}"

    def http(
        self, token: str | None = None, *, timeout_s: float = ANSWER_WITHIN_S
    ) -> httpx.AsyncClient:
        """A client of the HTTP port, to be used with `async with`; `token` goes with each
        request."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=timeout_s, limits=limits
        )

    async def stop(self) -> None:
        """Ends the process for good, in order where that is possible, and gives its ports up."""
        try:
            await super().stop()
        finally:
            self._http_port.release()

    async def discard(self) -> None:
        """Kills the process where it runs, frozen or not, and gives its ports up."""
        try:
            await super().discard()
        finally:
            self._http_port.release()
