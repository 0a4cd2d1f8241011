"""Payment as it runs: commands in from Kafka, replies out to Kafka, processes that die between."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.audit import Source, audit
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment, GrantPoints, RefundPayment, TopUpWallet
from shared.testing.processes import CRASHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.testing.databases import Database
    from shared.testing.kafka import Record, Topics
    from shared.testing.processes import Instance

    StartService = Callable[..., Awaitable[Instance]]

COMMANDS = "payment.commands.v1"
REPLIES = "payment.replies.v1"
REQUESTS = "wallet.requests.v1"
EVENTS = "wallet.events.v1"


def charge(order_id: str, user_id: str = "u1", amount: int = 1) -> ChargePayment:
    return ChargePayment(
        command_id=f"{order_id}:charge:do",
        order_id=order_id,
        user_id=user_id,
        amount=amount,
        currency="KRW",
        method=PaymentMethod.WALLET,
        points=0,
    )


def refund(order_id: str) -> RefundPayment:
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)


def top_up(command_id: str, user_id: str = "u1", amount: int = 100) -> TopUpWallet:
    return TopUpWallet(command_id=command_id, user_id=user_id, amount=amount, currency="KRW")


async def fill(topics: Topics, amount: int) -> None:
    await topics.publish(REQUESTS, [top_up("t1", amount=amount)])
    await topics.message(EVENTS, lambda message: message.type == "WalletToppedUp", within_s=30)


async def require_at_rest(database: Database, topics: Topics) -> None:
    """Everything is read and committed, and every invariant of payment holds."""
    await topics.wait_drained("payment", "payment-requests")
    (await audit(database.operator_dsn, [Source("payment", "payment")], only_always=True)).require()


async def balance(database: Database) -> Any:
    async with database.connection("payment") as connection:
        return await connection.fetchval("SELECT balance FROM wallet WHERE user_id = 'u1'")


async def test_from_kafka_to_kafka(
    database: Database, topics: Topics, service: StartService
) -> None:
    await topics.create(service="payment")
    await service("payment")
    await fill(topics, 100)
    grants = [GrantPoints(command_id=f"g-{currency}", user_id="u1", amount=7, currency=currency)
              for currency in ("KRW", "USD")]  # fmt: skip
    await topics.publish(REQUESTS, grants)
    commands = [charge("o1", amount=60), charge("o2", amount=101), refund("o3"), charge("o3")]
    await topics.publish(COMMANDS, [*commands, b"{", charge("o1", amount=59)])
    replies = await topics.wait_for(REPLIES, count=4, within_s=30)
    await topics.publish(COMMANDS, [refund("o1"), *commands])
    replies = await topics.wait_for(REPLIES, count=9, within_s=30)

    said = Counter((record.key, _said(record)) for record in replies)
    assert said == {
        ("o1", "PaymentCharged wallet 60"): 2,
        ("o1", "PaymentRefunded undone"): 1,
        ("o2", "PaymentRefused insufficient_balance"): 2,
        ("o3", "PaymentRefunded nothing"): 2,
        ("o3", "PaymentRefused already_refunded"): 2,
    }
    first = next(record for record in replies if record.key == "o1")
    assert first.headers is not None
    assert first.headers["ce_type"] == "PaymentCharged"
    assert first.headers["ce_id"] == "o1:charge:do"
    assert first.headers["ce_source"] == "payment"
    dead = await topics.wait_for("payment.dlq.v1", count=2, within_s=30)
    assert {(record.headers or {})["dlq-reason"] for record in dead} == {
        "not_json", "command_id_reused",
    }  # fmt: skip
    refused = await topics.message(EVENTS, lambda message: message.type == "CommandRefused")
    assert (refused.command_id, refused.reason) == ("g-USD", "currency_mismatch")
    granted = await topics.message(EVENTS, lambda message: message.type == "PointsGranted")
    assert (granted.command_id, granted.balance) == ("g-KRW", 7)
    await require_at_rest(database, topics)
    assert await balance(database) == 100


@pytest.mark.parametrize("crash_point", ["after_load", "before_commit", "after_commit",
                                         "after_publish"])  # fmt: skip
async def test_f34_f47_killed_anywhere_each_order_is_charged_once(
    database: Database, topics: Topics, service: StartService, crash_point: str
) -> None:
    await topics.create(service="payment")
    payment = await service("payment", CHUNK_MESSAGES="40")
    await fill(topics, 250)
    await topics.wait_drained("payment-requests")
    await payment.terminate()
    await topics.publish(COMMANDS, [charge(f"o{number}") for number in range(300)])

    # in or after the third chunk, while others wait
    payment.spawn(crash_point=f"{crash_point}:3")
    assert await payment.exited(within_s=30) == CRASHED
    await payment.start()
    await topics.wait_drained("payment", within_s=30)

    replies: dict[str | None, set[bytes | None]] = {f"o{number}": set() for number in range(300)}

    def all_replied(record: Record) -> bool:
        replies[record.key].add(record.value)
        return all(replies.values())

    await topics.wait_for(REPLIES, all_replied, within_s=30)
    async with database.connection("payment") as connection:
        captured = await connection.fetchval("SELECT sum(captured) FROM payment")
        assert await connection.fetchval("SELECT count(*) FROM payment") == 300
    assert captured == 250
    assert all(len(values) == 1 for values in replies.values())
    assert await balance(database) == 0
    await require_at_rest(database, topics)


async def test_f31_two_processes_debit_one_wallet(
    database: Database, topics: Topics, service: StartService
) -> None:
    await topics.create(service="payment")
    await service("payment", 0, CHUNK_MESSAGES="7")
    await service("payment", 1, CHUNK_MESSAGES="7")
    await fill(topics, 100)

    await topics.publish(COMMANDS, [charge(f"o{number}") for number in range(200)])

    replies = await topics.wait_for(REPLIES, count=200, within_s=60)
    assert Counter(record.json["type"] for record in replies) == {
        "PaymentCharged": 100,
        "PaymentRefused": 100,
    }
    assert await balance(database) == 0
    await require_at_rest(database, topics)


def _said(record: Record) -> str:
    body = record.json
    match body["type"]:
        case "PaymentCharged":
            (part,) = body["parts"]
            return f"PaymentCharged {part['source']} {part['amount']}"
        case "PaymentRefused":
            return f"PaymentRefused {body['reason']}"
        case _:
            return f"PaymentRefunded {body['effect']}"
