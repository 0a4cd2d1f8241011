"""What tests of several services share: a shop, which is all of them as processes.

async with open_shop(...) as shop:
    await shop.stock_up(put_product("P001", quantity=10), top_up_wallet("ann", amount=5_000))
    await shop.publish(place_order("o-1", user_id="ann"))
    await shop.outcome("o-1")
    await shop.rest()            # nothing moves, and every invariant holds
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from local_stack import SERVICES
from local_stack.layout import STOREFRONT
from orderctl.auditing import audit_everything
from orderctl.draining import wait_until_at_rest
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.reconciliation import GatewayAccess
from shared.testing.gateway import Gateway
from shared.testing.kafka import Topics
from shared.testing.ports import ReservedPort
from shared.testing.processes import Instance
from shared.testing.signals import eventually
from shared.testing.storefronts import Storefront
from shared.testing.valkey import claimed_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    from local_stack import Environment
    from shared.audit import Report
    from shared.contracts.base import Message
    from shared.testing.databases import Database, Template
    from shared.testing.kafka import Record

WITHIN_S: Final = 90.0
"""For whatever must happen; the machine may be busy."""
COMMANDS, EVENTS = "orders.commands.v1", "orders.events.v1"
ORCHESTRATOR: Final = "order-orchestrator"
OUTCOMES: Final = ("OrderConfirmed", "OrderRejected", "OrderCancelled")
ANSWERED_ON: Final = {
    "stock.admin.v1": "stock.events.v1",
    "coupon.admin.v1": "coupon.events.v1",
    "coupon.requests.v1": "coupon.events.v1",
    "wallet.requests.v1": "wallet.events.v1",
}
"""Topic of requests -> where they are answered."""


class Shop:
    """All services on topics and a database of their own."""

    def __init__(
        self,
        topics: Topics,
        database: Database,
        redis_url: str,
        gateway: Gateway,
        folder: Path,
        settings: Mapping[str, str],
    ) -> None:
        """`settings` are those of every instance."""
        self.topics = topics
        self.database = database
        self.redis_url = redis_url
        self.gateway = gateway
        self.instances: dict[str, Instance] = {}
        """By instance id, as `stock-0`."""
        self._folder = folder
        self._settings = settings

    @property
    def orchestrator(self) -> Instance:
        return self.instances[f"{ORCHESTRATOR}-0"]

    def storefront(self, number: int = 0, **settings: str) -> Storefront:
        """A storefront of this shop, to be started; its settings win over those of the shop."""
        asked = {
            setting: self.instances[f"{service}-0"].admin_url
            for setting, service in STOREFRONT.calls.items()
        }
        own = {**self._settings, **asked, **STOREFRONT.environment, **settings}
        return Storefront(f"{STOREFRONT.name}-{number}", own, folder=self._folder)

    def http(self, number: int = 0, token: str | None = None) -> httpx.AsyncClient:
        """A client of a storefront that the shop was opened with."""
        storefront = self.instances[f"{STOREFRONT.name}-{number}"]
        assert isinstance(storefront, Storefront)
        return storefront.http(token)

    async def publish(self, *commands: Message | Mapping[str, Any] | bytes | Record) -> None:
        """What upstream systems send."""
        await self.topics.publish(COMMANDS, commands)

    async def stock_up(self, *requests: Message) -> None:
        """Sends what operators, treasury and shoppers ask for, and waits for the answers.

        Topic after topic, so that there are products before orders and campaigns before coupons.
        """
        for topic, answers in ANSWERED_ON.items():
            sent = [one for one in requests if type(one) in TOPICS[topic].messages]
            if not sent:
                continue
            ids = {one.command_id for one in sent}  # type: ignore[attr-defined]
            await self.topics.publish(topic, sent)
            found = await self.topics.wait_for(
                answers,
                lambda record, ids=ids: record.json.get("commandId") in ids,  # type: ignore[misc]
                count=len(ids),
                within_s=WITHIN_S,
            )
            refused = [record.json for record in found if "Refused" in record.json["type"]]
            assert not refused, refused[:3]

    async def event(self, order_id: str, *types: str, within_s: float = WITHIN_S) -> Any:
        """The first event of the order of one of these types."""
        return await self.topics.message(
            EVENTS,
            lambda event: event.type in types and event.order_id == order_id,
            within_s=within_s,
        )

    async def outcome(self, order_id: str, *, within_s: float = WITHIN_S) -> Any:
        """The order's outcome."""
        return await self.event(order_id, *OUTCOMES, within_s=within_s)

    async def outcomes(self, order_ids: Iterable[str]) -> dict[str, Any]:
        """The outcomes of these orders, once all have one."""
        return {order_id: await self.outcome(order_id) for order_id in order_ids}

    async def refusal(self, key: str) -> Any:
        """The first `CommandRefused` about an order."""
        return await self.topics.message(
            EVENTS,
            lambda event: event.type == "CommandRefused" and event.key == key,
            within_s=WITHIN_S,
        )

    async def sent(self, topic: str, command_id: str, *, copies: int = 1) -> None:
        """Returns once so many copies of a command lie on its topic."""
        await self.topics.wait_for(
            topic,
            lambda record: record.json["commandId"] == command_id,
            count=copies,
            within_s=WITHIN_S,
        )

    async def saga(self, order_id: str) -> dict[str, Any]:
        """The saga as the admin port shows it, whenever it is asked."""
        async with self.orchestrator.admin() as client:
            document: dict[str, Any] = (await client.get(f"/sagas/{order_id}")).json()
            document.pop("askedAt", None)
            return document

    async def until(self, order_id: str, **facts: Any) -> dict[str, Any]:
        """The saga once it shows these facts: `state="HOLDING"`, `stuck=...` for any."""

        def shows(document: dict[str, Any]) -> bool:
            return all(
                document.get(name) is not None if fact is ... else document.get(name) == fact
                for name, fact in facts.items()
            )

        return await eventually(
            lambda: self.saga(order_id),
            within_s=WITHIN_S,
            describe=f"{order_id} shows {facts}",
            accept=shows,
        )

    async def act(self, order_id: str, action: str, **body: str) -> tuple[int, dict[str, Any]]:
        """An operator's action on the admin port: (status, document)."""
        fields = {"operator": "ann", "note": "a test"} | body
        async with self.orchestrator.admin() as client:
            response = await client.post(f"/sagas/{order_id}/{action}", json=fields)
            return response.status_code, response.json()

    async def value(self, sql: str, *arguments: Any) -> Any:
        """A value, as the operator, who reads every schema."""
        async with self.database.connection("operator") as connection:
            return await connection.fetchval(sql, *arguments)

    async def rest(self, *, within_s: float = WITHIN_S) -> Report:
        """Waits until nothing moves; raises unless every invariant holds."""
        dsn, kafka = self.database.operator_dsn, self.topics.connection
        found = await wait_until_at_rest(dsn, kafka, within_s=within_s)
        assert not found.at_work, found.at_work
        url, key = self.gateway.settings["GATEWAY_URL"], self.gateway.settings["GATEWAY_API_KEY"]
        report = await audit_everything(dsn, kafka, self.redis_url, gateway=GatewayAccess(url, key))
        report.require()
        return report

    async def is_sound(self) -> None:
        """Raises unless every invariant holds that holds at any moment."""
        report = await audit_everything(self.database.operator_dsn, None, only_always=True)
        report.require()

    async def heal(self) -> None:
        """Thaws what stands still and starts what is down."""
        if not self.gateway.process.is_running:
            await self.gateway.start()
        for instance in self.instances.values():
            if instance.is_running:
                instance.thaw()
            else:
                instance.spawn()
        for instance in self.instances.values():
            await instance.wait_ready(within_s=WITHIN_S)


class OpenShop(Protocol):
    """The fixture `open_shop`."""

    def __call__(
        self, folder: Path, replicas: Mapping[str, int] = ..., **environment: str
    ) -> AbstractAsyncContextManager[Shop]: ...


@pytest.fixture(scope="session")
def open_shop(environment: Environment, template: Template) -> OpenShop:
    """Opens shops: one instance of each service with a schema, unless `replicas` says otherwise,
    and as many storefronts as it says."""

    @asynccontextmanager
    async def opened(
        folder: Path,
        replicas: Mapping[str, int] = {},
        **settings: str,
    ) -> AsyncIterator[Shop]:
        connection = KafkaConnection(
            environment.kafka_bootstrap_servers,
            topic_prefix=f"t{secrets.token_hex(4)}.",
            **_kafka_security(),
        )
        topics = Topics(connection)
        async with (
            template.clone() as database,
            claimed_database(environment.redis_url) as valkey,
        ):
            gateway = Gateway(folder)
            shared = {
                "KAFKA_BOOTSTRAP_SERVERS": connection.bootstrap_servers,
                "KAFKA_TOPIC_PREFIX": topics.prefix,
                "REDIS_URL": valkey.url,
                "LOG_LEVEL": "WARNING",
            }
            shared |= {name: value for name, value in os.environ.items() if _is_security(name)}
            shop = Shop(topics, database, valkey.url, gateway, folder, shared | settings)
            ports: list[ReservedPort] = []
            for service in (one for one in SERVICES if one.role):
                for number in range(replicas.get(service.name, 1)):
                    name = f"{service.name}-{number}"
                    own = shared | {"DATABASE_URL": database.dsn(service.role)}
                    if service.name == "payment":
                        ports.append(port := ReservedPort())
                        own |= {**gateway.settings, "CALLBACK_PORT": str(port.port)}
                    own |= settings
                    shop.instances[name] = Instance(service.module, name, own, folder=folder)
            for number in range(replicas.get(STOREFRONT.name, 0)):
                shop.instances[f"{STOREFRONT.name}-{number}"] = shop.storefront(number)
            try:
                await gateway.start()
                await topics.create()
                for instance in shop.instances.values():
                    instance.spawn()
                for instance in shop.instances.values():
                    await instance.wait_ready(within_s=WITHIN_S)
                yield shop
            finally:
                processes = [*shop.instances.values(), gateway.process]
                await asyncio.gather(*[each.discard() for each in processes])
                for port in ports:
                    port.release()
                await topics.close()
                await topics.delete()

    return opened


def _is_security(name: str) -> bool:
    return name.startswith(("KAFKA_SECURITY_", "KAFKA_SASL_"))


def _kafka_security() -> Mapping[str, str]:
    fields = ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
    found = {field: os.environ.get(f"KAFKA_{field.upper()}") for field in fields}
    return {field: value for field, value in found.items() if value}
