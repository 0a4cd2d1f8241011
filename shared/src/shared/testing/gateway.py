"""The payment gateway simulator as a process of a test's own, with a book of its own.

gateway = Gateway(tmp_path)
await gateway.start()
await gateway.faults({"fault": "hang_after_charge", "share": 0.1}, seed=7)
...
await gateway.heal()
assert (await gateway.totals())["double_charges"] == 0
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import httpx

from shared.testing.processes import Instance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LINES_A_PAGE = 1_000


class Gateway:
    """Killed and restarted at will: the book stays."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """`environment` holds further settings of the simulator."""
        self._api_key = secrets.token_hex(16)
        self._secret = secrets.token_hex(16)
        self.process = Instance(
            "gateway_simulator.main",
            "gateway-0",
            {
                "GATEWAY_BOOK": str(folder / "book.sqlite"),
                "GATEWAY_API_KEY": self._api_key,
                "GATEWAY_WEBHOOK_SECRET": self._secret,
                **environment,
            },
            folder=folder,
            port_variable="GATEWAY_PORT",
        )

    @property
    def url(self) -> str:
        """Its address, the same over restarts."""
        return self.process.admin_url

    @property
    def settings(self) -> Mapping[str, str]:
        """What payment is told of it."""
        return {
            "GATEWAY_URL": self.url,
            "GATEWAY_API_KEY": self._api_key,
            "GATEWAY_WEBHOOK_SECRET": self._secret,
        }

    async def start(self) -> None:
        """Start it; returns once it answers."""
        await self.process.start()

    async def faults(self, *rules: Mapping[str, Any], seed: int = 1) -> None:
        """These faults befall requests from now on, and no others."""
        await self._admin("PUT", json={"seed": seed, "rules": list(rules)})

    async def heal(self) -> None:
        """No faults any more."""
        await self._admin("DELETE")

    async def strikes(self) -> dict[str, int]:
        """How often each fault struck since they were set."""
        found = await self._admin("GET")
        strikes: dict[str, int] = {}
        for rule in found["rules"]:
            strikes[rule["fault"]] = strikes.get(rule["fault"], 0) + rule["struck"]
        return strikes

    async def totals(self) -> dict[str, Any]:
        """What its book adds up to."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.get("/admin/book")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def book(self) -> list[dict[str, Any]]:
        """Every charge with its refunds, in the order in which they were written."""
        lines: list[dict[str, Any]] = []
        headers = {"Authorization": f"Bearer {self._api_key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client:
            page: dict[str, str] = {}
            while True:
                asked = {"limit": str(LINES_A_PAGE), **page}
                answer = (await client.get("/v1/charges", params=asked)).raise_for_status().json()
                lines += answer["charges"]
                if answer["next"] is None:
                    return lines
                page = {"startingAfter": answer["next"]}

    async def give_back(self, charge: Mapping[str, Any], key: str) -> None:
        """All of a charge, by hand, under a key of its own."""
        headers = {"Authorization": f"Bearer {self._api_key}", "Idempotency-Key": key}
        body = {name: charge[name] for name in ("amount", "currency")} | {"charge": charge["id"]}
        async with httpx.AsyncClient(base_url=self.url, headers=headers) as client:
            (await client.post("/v1/refunds", json=body)).raise_for_status()

    async def _admin(self, method: str, **options: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.request(method, "/admin/faults", **options)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found
