"""Whole instances of coupon between a broker, a database and a Redis of a module's own.

A process takes seconds to start, so a module's tests share what they can and tell themselves apart
by their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.audit import Source
from shared.audit.counters import check_counters
from shared.testing.builders import new_id, put_campaign
from shared.testing.deployment import Deployment
from shared.testing.signals import eventually
from shared.testing.valkey import claimed_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from local_stack import Environment
    from shared.contracts.base import Message
    from shared.testing.databases import Template
    from shared.testing.valkey import Valkey

ADMIN = "coupon.admin.v1"
REQUESTS = "coupon.requests.v1"
EVENTS = "coupon.events.v1"
LETTERS = "coupon-requests.dlq.v1"
RULE = "user.tier == 'gold'"


class Shop(Deployment):
    """A database, topics, a Redis, and the instances of coupon between them."""

    service = "coupon"
    groups = ("coupon", "coupon-requests")
    valkey: Valkey

    async def put(self, kind: str, limit: int = 100, *, count: int = 1, **fields: Any) -> list[str]:
        """New campaigns; returns their ids once coupon has them."""
        campaigns = [new_id("C") for _ in range(count)]
        await self.put_all(kind, campaigns, limit, **fields)
        return campaigns

    async def put_all(self, kind: str, campaigns: Sequence[str], limit: int, **fields: Any) -> None:
        """These campaigns; returns once coupon has them."""
        if kind == "conditional":
            fields.setdefault("rule", RULE)
        commands = [
            put_campaign(one, kind=kind, limit=limit, command_id=f"put-{one}", **fields)
            for one in campaigns
        ]
        await self.topics.publish(ADMIN, commands)
        await self.there(campaigns)

    async def there(self, campaigns: Sequence[str]) -> None:
        """Returns once coupon has these campaigns."""
        async with self.database.connection("coupon") as connection:
            await eventually(
                lambda: connection.fetchval(
                    "SELECT count(*) FROM campaign WHERE coupon_id = ANY ($1)", campaigns
                ),
                accept=lambda found: found == len(campaigns),
                within_s=30,
                describe=f"{len(campaigns)} campaigns are put",
            )

    async def ask(self, *commands: Message) -> None:
        """Publish requests."""
        await self.topics.publish(REQUESTS, commands)

    async def verdicts(self, commands: Iterable[Message], **how: Any) -> list[Message]:
        """The one answer of each command."""
        return await self.answers(EVENTS, commands, **how)

    async def issued(self, coupon_id: str) -> int:
        """How many coupons the campaign's row counts."""
        async with self.database.connection("coupon") as connection:
            return int(
                await connection.fetchval(
                    "SELECT issued FROM campaign WHERE coupon_id = $1", coupon_id
                )
            )

    async def issues_more(self, coupon_id: str, coupons: int = 1) -> None:
        """Returns once so many more coupons are issued."""
        before = await self.issued(coupon_id)
        await eventually(
            lambda: self.issued(coupon_id),
            accept=lambda found: found >= before + coupons,
            within_s=60,
            describe=f"{coupons} more coupons of {coupon_id} are issued",
        )

    async def flush(self) -> None:
        """Redis is empty, as soon as it is back."""
        await eventually(self.valkey.client.flushdb, within_s=30)

    async def require_gates(self) -> None:
        """Gates say what the rows say, once nothing is under way."""
        sources = [Source("coupon", "coupon")]
        check = await check_counters(self.database.operator_dsn, self.valkey.url, sources)
        assert check.ok, check

    async def total(self, name: str, **labels: str) -> float:
        """A metric's sum over the instances that run."""
        running = [number for number, one in self.instances.items() if one.is_running]
        return sum([await self.metric(name, number=number, **labels) for number in running])


@pytest.fixture(scope="module")
async def shop(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """The module's own shop; no instance runs yet."""
    folder = tmp_path_factory.mktemp("coupon")
    async with claimed_database(environment.redis_url) as valkey:
        own = {**environment, "REDIS_URL": valkey.url}
        async with Shop.deployed(template, own, folder) as shop:
            shop.valkey = valkey
            yield shop
