"""The real handlers in the pipeline's own transactions, on a real Postgres."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from shared.audit import Source, audit
from shared.contracts.base import MAX_TOTAL
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import ChargePayment, GrantPoints, RefundPayment, TopUpWallet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.contracts.base import Message
    from shared.pipeline.outbox import Row
    from shared.testing.databases import Database
    from shared.testing.replicas import Replica

    MakeReplica = Callable[[], Awaitable[Replica]]


LEFT = "SELECT user_id, balance, points FROM wallet"


def charge(order_id: str, user_id: str = "u1", amount: int = 1, **changes: Any) -> ChargePayment:
    fields: dict[str, Any] = {
        "command_id": f"{order_id}:charge:do",
        "currency": "KRW",
        "method": PaymentMethod.WALLET,
        "points": 0,
    }
    return ChargePayment(order_id=order_id, user_id=user_id, amount=amount, **(fields | changes))


def refund(order_id: str) -> RefundPayment:
    return RefundPayment(command_id=f"{order_id}:charge:undo", order_id=order_id)


def top_up(command_id: str, user_id: str = "u1", amount: int = 100) -> TopUpWallet:
    return TopUpWallet(command_id=command_id, user_id=user_id, amount=amount, currency="KRW")


def grant(command_id: str, user_id: str = "u1", amount: int = 100) -> GrantPoints:
    return GrantPoints(command_id=command_id, user_id=user_id, amount=amount, currency="KRW")


def said(rows: Sequence[Row]) -> list[tuple[str, bytes | None]]:
    return [(row.topic, row.value) for row in rows]


def types(rows: Sequence[Row]) -> list[str]:
    return [row.message_type for row in rows]


async def require_sound(database: Database) -> None:
    """All that payment alone can tell of invariants 4 and 5."""
    sources = [Source("payment", "payment")]
    (await audit(database.operator_dsn, sources, only_always=True)).require()


async def balances(database: Database) -> dict[str, int]:
    async with database.connection("payment") as connection:
        return dict(await connection.fetch("SELECT user_id, balance FROM wallet"))  # type: ignore[arg-type]


async def in_chunks(
    replicas: Sequence[Replica], messages: Sequence[Message], *, seed: int, most: int = 20
) -> list[Row]:
    """Deal the messages to the replicas in chunks of random length, all at the same time."""
    chance = random.Random(seed)
    chunks: list[list[Sequence[Message]]] = [[] for _ in replicas]
    start = 0
    while start < len(messages):
        length = chance.randint(1, most)
        chance.choice(chunks).append(messages[start : start + length])
        start += length

    async def work(replica: Replica, own: Sequence[Sequence[Message]]) -> list[Row]:
        return [row for chunk in own for row in await replica.run(*chunk)]

    work_done = await asyncio.gather(*map(work, replicas, chunks))
    return [row for rows in work_done for row in rows]


async def test_f1_a_duplicate_gets_the_same_reply_and_moves_nothing(
    database: Database, replica: MakeReplica
) -> None:
    one, other = await replica(), await replica()
    await one.run(top_up("t1"))
    chunks: list[list[Message]] = [
        [charge("o1", amount=60), charge("o2", amount=41), refund("o3")],
        [charge("o3"), refund("o1"), refund("o2")],
    ]
    replies = [said(await one.run(*chunk)) for chunk in chunks]
    before = await balances(database)

    assert [said(await other.run(*chunk)) for chunk in chunks] == replies
    assert said(await other.run(*chunks[0], *chunks[1])) == [*replies[0], *replies[1]]

    assert await balances(database) == before == {"u1": 100}
    await require_sound(database)


async def test_f3_a_refused_order_stays_refused_after_a_top_up(
    database: Database, replica: MakeReplica
) -> None:
    one = await replica()
    first = said(await one.run(charge("o1")))
    assert b"insufficient_balance" in (first[0][1] or b"")
    await one.run(top_up("t1"))
    assert said(await one.run(charge("o1"))) == first
    assert await balances(database) == {"u1": 100}


async def test_a_repeated_request_is_answered_with_the_balance_of_then(
    database: Database, replica: MakeReplica
) -> None:
    one, other = await replica(), await replica()
    (first,) = await one.run(top_up("t1", amount=70))
    await one.run(top_up("t2", amount=5))
    (again,) = await other.run(top_up("t1", amount=70))
    assert again.value == first.value
    assert b'"balance":70' in (again.value or b"")
    assert await balances(database) == {"u1": 75}


async def test_requests_that_cannot_be_obeyed_are_answered_and_their_ids_stay_free(
    database: Database, replica: MakeReplica
) -> None:
    one = await replica()
    points = GrantPoints(command_id="g1", user_id="u1", amount=1, currency="USD")
    dollars = TopUpWallet(command_id="t1", user_id="u1", amount=1, currency="USD")
    rows = await one.run(points, dollars)
    assert Counter((row.topic, row.message_type) for row in rows) == {
        ("wallet.events.v1", "CommandRefused"): 2,
        ("payment-requests.dlq.v1", "DeadLetter"): 2,
    }
    answers = b"".join(row.value or b"" for row in rows if row.message_type == "CommandRefused")
    assert answers.count(b'"reason":"currency_mismatch"') == 2

    assert types(await one.run(top_up("t1"))) == ["WalletToppedUp"]
    async with database.connection("payment") as connection:
        await connection.execute("UPDATE wallet SET balance = $1, points = $1", MAX_TOTAL)
    for request in (top_up("t2", amount=1), grant("g1", amount=1)):
        (refused, _) = await one.run(request)
        assert b"limit_exceeded" in (refused.value or b"")


async def test_f29_other_content_under_one_key_is_dead_lettered_and_never_answered(
    database: Database, replica: MakeReplica
) -> None:
    one = await replica()
    await one.run(top_up("t1"))
    await one.run(charge("o1", amount=60))

    by_the_inbox = await one.run(charge("o1", amount=61))
    async with database.connection("payment") as connection:
        await connection.execute("DELETE FROM inbox WHERE answers IS NULL")  # as after its time
    by_the_fold = await one.run(charge("o1", amount=61), charge("o2", amount=1))
    another_users = await one.run(charge("o1", user_id="u2", amount=60))

    for rows in (by_the_inbox, another_users):
        assert [(row.topic, row.headers and row.headers["dlq-reason"]) for row in rows] == [
            ("payment.dlq.v1", "command_id_reused")
        ]
    assert sorted(types(by_the_fold)) == ["DeadLetter", "PaymentCharged"]
    assert await balances(database) == {"u1": 39}
    await require_sound(database)


async def test_f31_200_parallel_debits_with_money_for_100(
    database: Database, replica: MakeReplica
) -> None:
    replicas = [await replica() for _ in range(4)]
    await replicas[0].run(top_up("t1", amount=100))
    commands = [charge(f"o{number}") for number in range(200)]

    rows = await in_chunks(replicas, commands, seed=31, most=5)

    assert Counter(types(rows)) == {"PaymentCharged": 100, "PaymentRefused": 100}
    assert await balances(database) == {"u1": 0}
    await require_sound(database)


@pytest.mark.parametrize("points", [0, 1, 2])
async def test_f31_single_debits_each_in_a_transaction_of_its_own(
    database: Database, replica: MakeReplica, points: int
) -> None:
    """200 of 2 each, with money or points for 100."""
    replicas = [await replica() for _ in range(4)]
    funds: list[Message] = []
    if points < 2:
        funds.append(top_up("t1", amount=100 * (2 - points)))
    if points:
        funds.append(grant("g1", amount=100 * points))
    await replicas[0].run(*funds)

    answers = await asyncio.gather(
        *(replicas[n % 4].run(charge(f"o{n}", amount=2, points=points)) for n in range(200))
    )

    counted = Counter(types([row for rows in answers for row in rows]))
    assert counted == {"PaymentCharged": 100, "PaymentRefused": 100}
    async with database.connection("payment") as connection:
        assert [tuple(row) for row in await connection.fetch(LEFT)] == [("u1", 0, 0)]
        assert await connection.fetchval("SELECT sum(amount) FROM ledger_entry") == 0
    await require_sound(database)


async def test_f48_crossing_debits_of_many_users_end_in_no_deadlock(
    database: Database, replica: MakeReplica
) -> None:
    replicas = [await replica() for _ in range(4)]
    chance = random.Random(48)
    users = [f"u{number}" for number in range(40)]
    await replicas[0].run(*(top_up(f"t-{user}", user, 30) for user in users))
    commands: list[Message] = []
    for number in range(1_500):
        commands.append(charge(f"o{number}", chance.choice(users)))
        if number % 3 == 0:
            commands.append(refund(f"o{chance.randrange(number + 1)}"))
    refunded = {message.order_id for message in commands if isinstance(message, RefundPayment)}

    await in_chunks(replicas, commands + commands[:200], seed=48, most=60)

    async with database.connection() as connection:
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        kept = await connection.fetchval(
            "SELECT sum(captured - refunded) FROM payment.payment WHERE order_id = ANY ($1)",
            sorted(refunded),
        )
        assert await connection.fetchval("SELECT count(*) FROM payment.payment") == 1_500
    assert deadlocks == 0
    assert kept == 0
    await require_sound(database)


async def test_f15_a_charge_and_its_refund_race_on_two_instances(
    database: Database, replica: MakeReplica
) -> None:
    one, other = await replica(), await replica()
    await one.run(top_up("t1"))
    replies: Counter[tuple[str, str]] = Counter()
    for number in range(60):
        charged, refunded = await asyncio.gather(
            one.run(charge(f"o{number}")), other.run(refund(f"o{number}"))
        )
        effect = json.loads(refunded[0].value or b"")["effect"]
        replies[charged[0].message_type, effect] += 1
    assert replies.keys() <= {("PaymentCharged", "undone"), ("PaymentRefused", "nothing")}
    assert await balances(database) == {"u1": 100}
    await require_sound(database)


async def test_one_order_charged_under_two_ids_at_once_is_captured_once(
    database: Database, replica: MakeReplica
) -> None:
    """The inbox doesn't know them for one: the payment's key does, and the loser starts over."""
    one, other = await replica(), await replica()
    await one.run(top_up("t1"))
    for number in range(20):
        rows = await asyncio.gather(
            one.run(charge(f"o{number}", command_id=f"o{number}:a")),
            other.run(charge(f"o{number}", command_id=f"o{number}:b")),
        )
        assert [types(each) for each in rows] == [["PaymentCharged"]] * 2
    assert await balances(database) == {"u1": 80}
    await require_sound(database)


async def test_f30_one_payment_refunded_under_two_ids_at_once_gives_the_money_back_once(
    database: Database, replica: MakeReplica
) -> None:
    one, other = await replica(), await replica()
    await one.run(top_up("t1"))
    await one.run(*(charge(f"o{number}") for number in range(20)))
    for number in range(20):
        again = RefundPayment(command_id=f"o{number}:again", order_id=f"o{number}")
        rows = await asyncio.gather(one.run(refund(f"o{number}")), other.run(again))
        assert [json.loads(each[0].value or b"")["effect"] for each in rows] == ["undone"] * 2
    assert await balances(database) == {"u1": 100}
    await require_sound(database)


async def test_two_instances_open_one_wallet(database: Database, replica: MakeReplica) -> None:
    one, other = await replica(), await replica()
    for number in range(20):
        user = f"u{number}"
        await asyncio.gather(
            one.run(top_up(f"a{number}", user, 1)), other.run(top_up(f"b{number}", user, 2))
        )
    assert set((await balances(database)).values()) == {3}
    await require_sound(database)


async def test_refusals_are_counted_once_by_reason(
    database: Database, replica: MakeReplica
) -> None:
    def counted() -> float:
        labels = {"reason": "insufficient_balance"}
        return REGISTRY.get_sample_value("payment_errors_total", labels) or 0

    one = await replica()
    before = counted()
    await one.run(charge("o1"), charge("o2"))
    await one.run(charge("o1"))
    assert counted() == before + 2
