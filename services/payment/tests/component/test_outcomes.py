"""Charges that come again: the first outcome, from Redis once it was asked for twice, and from
Postgres whatever becomes of Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from shared.contracts.payment import PaymentCharged, PaymentRefused
from shared.testing.builders import charge_payment, new_id
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from local_stack import Environment, Stack
    from shared.contracts.payment import ChargePayment

COMMANDS = "payment.commands.v1"
REPLIES = "payment.replies.v1"
FOUND = "payment_outcomes_total"


async def some_charges(shop: Any) -> list[ChargePayment]:
    """Twenty, and money for ten."""
    await shop.start(0)
    user_id = new_id("u")
    await shop.fill([user_id], money=10_000)
    return [charge_payment(new_id("o"), amount=1_000, user_id=user_id) for _ in range(20)]


async def again(shop: Any, charges: list[ChargePayment], times: int) -> list[Any]:
    """Asks once more; the answers, of which all to one charge are equal."""
    await shop.topics.publish(COMMANDS, charges)
    answers: list[Any] = await shop.answers(REPLIES, charges, times=times)
    return answers


async def test_f1_what_comes_again_is_answered_from_redis(
    shop: Any, environment: Environment
) -> None:
    charges = await some_charges(shop)
    first = await again(shop, charges, 1)
    assert Counter(map(type, first)) == {PaymentCharged: 10, PaymentRefused: 10}
    assert await shop.metric(FOUND) == 0  # nobody asks as long as all is new
    assert await again(shop, charges, 2) == first
    key = f"payment:outcome:{charges[0].order_id}"
    async with Redis.from_url(environment.redis_url) as redis:
        await eventually(lambda: redis.exists(key), describe="the outcome is kept")
        assert 86_000 < await redis.ttl(key) <= 86_400
    assert await again(shop, charges, 3) == first
    await eventually(
        lambda: shop.metric(FOUND),
        accept=lambda count: count == 20,
        describe="they are found in Redis",
    )
    # Other content under the same key has no answer, whatever is kept.
    other = charge_payment(charges[0].order_id, amount=2_000, user_id=charges[0].user_id)
    await shop.topics.publish(COMMANDS, [other])
    await shop.letter("payment.dlq.v1", lambda record: charges[0].order_id in str(record.value))
    await shop.check()


async def test_f60_without_redis_postgres_answers(shop: Any, stack: Stack) -> None:
    charges = await some_charges(shop)
    first = await again(shop, charges, 1)
    await again(shop, charges, 2)
    await asyncio.to_thread(stack.hold, "valkey")
    assert await again(shop, charges, 3) == first
    assert await again(shop, charges, 4) == first
    await asyncio.to_thread(stack.release, "valkey")
    assert await again(shop, charges, 5) == first
    await eventually(
        lambda: shop.metric("payment_outcomes_away"),
        accept=lambda away: away == 0,
        within_s=30,
        describe="Redis is found again",
    )
    await shop.check()
