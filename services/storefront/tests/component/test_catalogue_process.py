"""A whole storefront before a whole stock: what is put and what moves is seen, by whoever asks and
by whoever watches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from shared.testing.builders import put_product, reserve_stock
from shared.testing.ports import ReservedPort
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.testing.kafka import Topics
    from shared.testing.processes import Instance

TOPICS = ("orders.commands.v1", "orders.events.v1", "coupon.requests.v1", "coupon.events.v1")


async def loads(storefront: Instance) -> float:
    """How often stock was asked for the catalogue."""
    async with storefront.admin() as admin:
        lines = (await admin.get("/metrics")).text.splitlines()
    found = [one for one in lines if one.startswith("storefront_cache_loads_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def event(lines: AsyncIterator[str]) -> tuple[str, Any]:
    """Name and data of the next event."""
    name = ""
    async for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            return name, json.loads(value)
    return name, None


async def test_what_stock_commits_is_seen_and_streams_end_with_the_process(
    topics: Topics, service: Callable[..., Any]
) -> None:
    await topics.create(*TOPICS, service="stock")
    stock = await service("stock")
    with ReservedPort() as port:
        storefront = await service(
            "storefront", STOCK_URL=stock.admin_url, ORCHESTRATOR_URL=stock.admin_url,
            IDENTITY="open", HTTP_PORT=str(port.port),
        )  # fmt: skip
        await eventually(lambda: "started" in storefront.log(), describe="it follows the topics")
        url = f"http://127.0.0.1:{port.port}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as shopper:

            async def page() -> list[tuple[int, int]]:
                products = (await shopper.get("/api/products")).json()["products"]
                return [(one["price"], one["available"]) for one in products]

            async def becomes(*products: tuple[int, int]) -> None:
                await eventually(page, accept=lambda found: found == list(products), within_s=30)

            assert await page() == []
            await topics.publish("stock.admin.v1", [put_product("P001", price=5, quantity=10)])
            await becomes((5, 10))
            await topics.publish("stock.admin.v1", [put_product("P001", price=6)])
            await becomes((6, 10))
            loaded = await loads(storefront)
            async with shopper.stream("GET", "/api/stock/stream?productId=P001") as answer:
                lines = answer.aiter_lines()
                name, level = await event(lines)
                assert (name, level["productId"], level["available"]) == ("level", "P001", 10)
                reserve = reserve_stock("o-1", items={"P001": 3})
                await topics.publish("stock.commands.v1", [reserve])
                while level["available"] != 7:  # what a price changed is a level too
                    _, level = await event(lines)
                await becomes((6, 7))
                assert await loads(storefront) == loaded
                assert await storefront.terminate() == 0
                assert await event(lines) == ("bye", {})
        assert '"level": "error"' not in storefront.log()
        assert "Cancel" not in storefront.log()
