"""Whole instances of payment between a broker, a database, a Redis and a gateway of a module's own.

A process takes seconds to start, so a module's tests share what they can and tell themselves apart
by their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.testing.builders import grant_points, top_up_wallet
from shared.testing.deployment import Deployment
from shared.testing.gateway import Gateway
from shared.testing.ports import ReservedPort
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from local_stack import Environment
    from shared.testing.databases import Template
    from shared.testing.processes import Instance

REQUESTS = "wallet.requests.v1"
EVENTS = "wallet.events.v1"

UNSETTLED = """
SELECT count(*) FROM gateway_call JOIN payment USING (order_id)
WHERE gateway_call.state NOT IN ('SUCCEEDED', 'DECLINED', 'VOID', 'QUARANTINED')
  AND payment.state <> 'TOMBSTONE'
"""


class Shop(Deployment):
    """A database, topics, a gateway, and the instances of payment between them."""

    service = "payment"
    groups = ("payment", "payment-requests")
    gateway: Gateway
    ports: list[ReservedPort]

    def instance(self, number: int = 0, **environment: str) -> Instance:
        """With the gateway, and a port for its callbacks."""
        if number in self.instances:
            return self.instances[number]
        port = ReservedPort()
        self.ports.append(port)
        settings = {**self.gateway.settings, "CALLBACK_PORT": str(port.port), **environment}
        return super().instance(number, **settings)

    async def fill(self, users: Iterable[str], *, money: int = 0, points: int = 0) -> None:
        """Money and points for these users, once they have them."""
        requests = [
            make(user, amount=amount)
            for user in users
            for make, amount in ((top_up_wallet, money), (grant_points, points))
            if amount
        ]
        await self.topics.publish(REQUESTS, requests)
        await self.answers(EVENTS, requests)

    async def settled(self, *, within_s: float = 60.0) -> None:
        """Returns once nothing that was asked of the gateway is open."""
        async with self.database.connection("payment") as connection:
            await eventually(
                lambda: connection.fetchval(UNSETTLED),
                accept=lambda count: count == 0,
                within_s=within_s,
                describe="every call to the gateway has its outcome",
            )


@pytest.fixture(scope="module")
async def shop(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """The module's own shop, with a gateway that is well; no instance runs yet."""
    folder = tmp_path_factory.mktemp("payment")
    async with Shop.deployed(template, environment, folder) as shop:
        shop.gateway, shop.ports = Gateway(folder), []
        await shop.gateway.start()
        yield shop
        await shop.gateway.process.discard()
        for port in shop.ports:
            port.release()


@pytest.fixture(autouse=True)
async def well(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The gateway has no faults any more when the next test begins."""
    yield
    if "shop" in request.fixturenames:
        shop: Shop = request.getfixturevalue("shop")
        await shop.gateway.heal()
