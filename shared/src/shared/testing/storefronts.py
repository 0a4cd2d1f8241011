"""The storefront as a process of a test's own: an instance that has an HTTP port as well.

storefront = Storefront("storefront-0", settings, folder=tmp_path)
await storefront.start()
async with storefront.http() as client:
    await client.get("/api/products")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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


class Shopper:
    """A user of a storefront."""

    def __init__(self, client: httpx.AsyncClient, user_id: str, *, is_named: bool = True) -> None:
        """`is_named`: each request says whose it is, and not a token."""
        self.client = client
        self.user_id = user_id
        self._fields = {"userId": user_id} if is_named else {}

    async def place(
        self, items: Mapping[str, int] | None = None, *, key: str | None = None, **fields: Any
    ) -> httpx.Response:
        """Orders `items`, a unit of P001 unless given."""
        lines = [
            {"productId": product_id, "quantity": quantity}
            for product_id, quantity in (items or {"P001": 1}).items()
        ]
        return await self.post("/api/orders", key=key, items=lines, **fields)

    async def placed(self, items: Mapping[str, int] | None = None, **fields: Any) -> str:
        """The id of an order that waits for its payment."""
        answer = await self.place(items, **fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "AWAITING_PAYMENT", answer.text
        order_id: str = answer.json()["orderId"]
        return order_id

    async def pay(self, order_id: str, *, key: str | None = None, **fields: Any) -> httpx.Response:
        """Pays an order."""
        return await self.post(f"/api/orders/{order_id}/payment", key=key, **fields)

    async def cancel(self, order_id: str, **fields: Any) -> httpx.Response:
        """Cancels an order."""
        return await self.post(f"/api/orders/{order_id}/cancel", **fields)

    async def show(self, order_id: str) -> httpx.Response:
        """An order as it is now."""
        return await self.client.get(f"/api/orders/{order_id}")

    async def post(self, path: str, *, key: str | None = None, **fields: Any) -> httpx.Response:
        """A request with a body, perhaps under an `Idempotency-Key`."""
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post(path, json=self._fields | fields, headers=headers)

    async def cart(self) -> httpx.Response:
        """What is in the cart."""
        return await self.client.get("/api/cart", params=self._fields)
