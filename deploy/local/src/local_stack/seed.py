"""What a stack has to begin with: products, users with money, campaigns, and some coupons.

    python -m local_stack.seed        # with KAFKA_BOOTSTRAP_SERVERS in the environment

All of it goes to the admin topics, as an operator would send it, under ids that are always the
same: seeding a stack again changes nothing. `P001` to `P100` and `user_1` to `user_10000` have
stock and money enough for a million orders, `user_1` to `user_100` have 100,000 points each;
`RUSH01` to `RUSH05` are scarce, `SOLDOUT` is what it says. Three campaigns have given coupons to
the first users: `WELCOME10` and `MINUS1000` to 1,000 each, `GIFT` to 100.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from local_stack.errors import StackError
from local_stack.streams import connection_to, listener, producer
from shared.contracts.base import Message, message_id
from shared.contracts.coupon import (
    CampaignKind,
    CouponRefusal,
    Discount,
    DiscountType,
    IssueCoupon,
    PutCampaign,
)
from shared.contracts.payment import GrantPoints, TopUpWallet
from shared.contracts.stock import PutProduct, StockStrategy
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.kafka.topics import TopicError

PREFIX: Final = "seed-2"
"""Of every command id. Raise the number when what is seeded changes."""
CURRENCY: Final = "KRW"
PRODUCTS: Final = 100
UNITS: Final = 100_000_000
USERS: Final = 10_000
MONEY: Final = 10**12
"""Minor units in each wallet: one user alone could pay a million orders."""
POINTS_USERS: Final = 100
POINTS: Final = 100_000
"""Of each of the first users; one point is one minor unit."""
RUSH_PRODUCTS: Final = 5
RUSH_UNITS: Final = 40
RUSH_PRICE: Final = 5_000
SOLD_OUT: Final = "SOLDOUT"

CAMPAIGNS: Final[Mapping[str, Discount]] = {
    "WELCOME10": Discount(type=DiscountType.PERCENT, value=10, cap=1_000),
    "MINUS1000": Discount(type=DiscountType.FIXED, value=1_000),
    "GIFT": Discount(type=DiscountType.FIXED, value=1_000_000),
}
COUPONS: Final[Mapping[str, int]] = {"WELCOME10": 1_000, "MINUS1000": 1_000, "GIFT": 100}
"""Campaign -> how many of the first users have its coupon."""
CAMPAIGN_LIMIT: Final = 10_000

SILENCE_S: Final = 30.0
"""How long no answer may come before seeding fails."""

ANSWERS: Final[Mapping[str, str]] = {
    "stock.admin.v1": "stock.events.v1",
    "coupon.admin.v1": "coupon.events.v1",
    "coupon.requests.v1": "coupon.events.v1",
    "wallet.requests.v1": "wallet.events.v1",
}
"""Topic of commands -> where they are answered."""


class SeedError(StackError):
    """A command of the seed was refused, or nobody answers."""


class Request(NamedTuple):
    """One command and its topic."""

    topic: str
    message: Message


def product_id(number: int) -> str:
    """`P001` to `P100`."""
    return f"P{number:03d}"


def rush_product_id(number: int) -> str:
    """`RUSH01` to `RUSH05`."""
    return f"RUSH{number:02d}"


def price_of(number: int) -> int:
    """Minor units for one unit of product `number`: 1,100 to 11,000."""
    return 1_000 + 100 * number


def catalogue() -> Iterator[Request]:
    """The products."""
    for number in range(1, PRODUCTS + 1):
        yield _product(product_id(number), price_of(number), UNITS)
    for number in range(1, RUSH_PRODUCTS + 1):
        yield _product(rush_product_id(number), RUSH_PRICE, RUSH_UNITS)
    yield _product(SOLD_OUT, RUSH_PRICE, 0)


def _product(name: str, price: int, units: int) -> Request:
    message = PutProduct(
        command_id=f"{PREFIX}-product-{name}",
        product_id=name,
        name=f"Product {name}",
        price=price,
        currency=CURRENCY,
        strategy=StockStrategy.OPTIMISTIC,
        quantity=units,
    )
    return Request("stock.admin.v1", message)


def wallets() -> Iterator[Request]:
    """Money for every user."""
    for number in range(1, USERS + 1):
        message = TopUpWallet(
            command_id=f"{PREFIX}-money-user_{number}",
            user_id=f"user_{number}",
            amount=MONEY,
            currency=CURRENCY,
        )
        yield Request("wallet.requests.v1", message)


def points() -> Iterator[Request]:
    """Points for the first users."""
    for number in range(1, POINTS_USERS + 1):
        message = GrantPoints(
            command_id=f"{PREFIX}-points-user_{number}",
            user_id=f"user_{number}",
            amount=POINTS,
            currency=CURRENCY,
        )
        yield Request("wallet.requests.v1", message)


def campaigns() -> Iterator[Request]:
    """The campaigns."""
    for name, discount in CAMPAIGNS.items():
        message = PutCampaign(
            command_id=f"{PREFIX}-campaign-{name}",
            coupon_id=name,
            kind=CampaignKind.FIRST_COME,
            limit=CAMPAIGN_LIMIT,
            discount=discount,
        )
        yield Request("coupon.admin.v1", message)


def coupons() -> Iterator[Request]:
    """Coupons for the first users. Their campaigns must be there."""
    for name, count in COUPONS.items():
        for number in range(1, count + 1):
            message = IssueCoupon(
                command_id=f"{PREFIX}-coupon-{name}-user_{number}",
                coupon_id=name,
                user_id=f"user_{number}",
            )
            yield Request("coupon.requests.v1", message)


async def seed(
    connection: KafkaConnection, tell: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """Send everything and wait until it is answered; how many answers of which type came.

    Raises SeedError, TopicError, and the broker's errors.
    """
    answers: Counter[str] = Counter()
    for wave in ([*catalogue(), *campaigns(), *wallets(), *points()], [*coupons()]):
        answers += await _ask(connection, wave)
    tell(
        f"seeded {answers['ProductPut']} products, {answers['WalletToppedUp']:,} users with money,"
        f" {answers['PointsGranted']} of them with points,"
        f" {answers['CampaignPut']} campaigns, {answers['CouponIssued']:,} coupons"
    )
    return answers


async def _ask(connection: KafkaConnection, requests: Sequence[Request]) -> Counter[str]:
    open_ids = {message_id(request.message) for request in requests}
    topics = sorted({ANSWERS[request.topic] for request in requests})
    async with listener(connection, topics) as consumer, producer(connection) as client:
        waiting = asyncio.create_task(_await_answers(consumer, open_ids))
        try:
            for topic, message in requests:
                key: str = getattr(message, TOPICS[topic].key)
                await client.send(connection.named(topic), message.to_bytes(), key=key.encode())
            await client.flush()
            return await waiting
        finally:
            waiting.cancel()


async def _await_answers(consumer: AIOKafkaConsumer, open_ids: set[str]) -> Counter[str]:
    answers: Counter[str] = Counter()
    while open_ids:
        try:
            async with asyncio.timeout(SILENCE_S):
                batches = await _records(consumer)
        except TimeoutError:
            raise SeedError(
                f"{len(open_ids)} commands are unanswered, as {min(open_ids)}; are the services up?"
            ) from None
        for value in batches:
            answer = json.loads(value)
            if answer.get("commandId") in open_ids:
                open_ids.discard(answer["commandId"])
                answers[_judged(answer)] += 1
    return answers


async def _records(consumer: AIOKafkaConsumer) -> list[bytes]:
    while True:
        batches = await consumer.getmany(timeout_ms=500, max_records=5_000)
        if batches:
            return [record.value for records in batches.values() for record in records]


def _judged(answer: Mapping[str, str]) -> str:
    """The answer's type. Raises SeedError where it is a no."""
    kind, reason = answer["type"], answer.get("reason")
    if kind == "CouponRefused" and reason == CouponRefusal.ALREADY_ISSUED:
        return "CouponIssued"  # by somebody else, before
    if kind in ("CommandRefused", "CouponRefused"):
        raise SeedError(f"{answer['commandId']}: {reason}: {answer.get('detail', '')}")
    return kind


def seed_once(
    environment: Mapping[str, str], marker: Path, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Seed the stack of `environment`, unless `marker` says that it was done. Raises SeedError."""
    if marker.exists() and marker.read_text(encoding="utf-8") == PREFIX:
        return
    try:
        asyncio.run(seed(connection_to(environment), tell))
    except (TopicError, KafkaError, OSError) as error:
        raise SeedError(f"the stack can't be seeded: {type(error).__name__}: {error}") from error
    marker.write_text(PREFIX, encoding="utf-8")


def main() -> int:
    """Seed the deployment that the environment names."""
    if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        print("error: KAFKA_BOOTSTRAP_SERVERS is not set; `make env` tells it", file=sys.stderr)
        return 1
    try:
        asyncio.run(seed(connection_to(os.environ), print))
    except (SeedError, TopicError, KafkaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
