"""The proof, F24 to F30: charges by a gateway that loses answers, fails after charging and repeats
itself, while payment is killed over and over, and some orders are given up on the way.

Afterwards no order is charged twice, both books say the same, and nothing is open.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.testing.builders import charge_payment, new_id, refund_payment
from shared.testing.chaos import Chaos, faults_of
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from shared.contracts.base import Message
    from shared.contracts.payment import ChargePayment

COMMANDS = "payment.commands.v1"
REPLIES = "payment.replies.v1"

FAULTS: Final = (
    {"fault": "hang_after_charge", "share": 0.10},
    {"fault": "hang_before_charge", "share": 0.11},
    {"fault": "error_after_charge", "share": 0.06},
    {"fault": "late", "share": 0.02, "seconds": 4},
    {"fault": "decline", "share": 0.05},
    {"fault": "throttle", "share": 0.02, "times": 20, "on": ["charge", "inquiry"]},
    {"fault": "duplicate_webhooks", "times": 1},
)
"""A fifth of the requests time out, half of them charged; every callback comes twice."""

STATES: Final = "SELECT state, count(*) FROM payment WHERE order_id = ANY ($1) GROUP BY state"
OURS: Final = """
SELECT order_id, captured - CASE WHEN is_late THEN 0 ELSE points END AS captured,
       refunded - CASE WHEN is_late OR refunded = 0 THEN 0 ELSE points END AS refunded
FROM payment WHERE captured > 0 AND order_id = ANY ($1)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How many charges, in how many waves, and what payment is told."""

    charges: int
    waves: int
    kills: int
    pause_s: tuple[float, float]
    settings: dict[str, str]


DEFAULT = Size(
    600, 12, 3, (1.5, 2.5),
    {"GATEWAY_TIMEOUT_S": "1", "GATEWAY_LEASE_S": "3", "RECONCILE_INTERVAL_S": "2"},
)  # fmt: skip
WHOLE = Size(10_000, 100, 10, (4.0, 5.0), {"RECONCILE_INTERVAL_S": "5"})
"""Killed every 5 s."""


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(DEFAULT, id="default"),
        pytest.param(WHOLE, id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
async def test_f24_to_f30_no_order_is_charged_twice(shop: Any, size: Size) -> None:
    users = [new_id("u") for _ in range(20)]
    await shop.start(0, 1, **size.settings)
    await shop.fill(users, points=10_000_000)
    charges = [
        charge_payment(
            new_id("o"), amount=1_000, method="gateway", user_id=users[number % 20],
            points=100 if number % 10 == 0 else 0,
        )
        for number in range(size.charges)
    ]  # fmt: skip
    given_up = charges[::9]
    await shop.gateway.faults(*FAULTS, seed=size.charges)

    killed = [fault for one in shop.instances.values() for fault in faults_of(one, ("kill",))]
    async with Chaos(killed, seed=size.charges, pause_s=size.pause_s) as chaos:
        await _publish(shop, charges, given_up, size)
        await eventually(
            lambda: chaos.counts["kill"],
            accept=lambda count: count >= size.kills,
            within_s=300,
            describe=f"{size.kills} kills",
        )
        await eventually(
            lambda: _count(shop, "SELECT count(*) FROM payment"),
            accept=lambda count: count >= size.charges,
            within_s=600,
            describe="every charge is taken",
        )
    strikes = await shop.gateway.strikes()
    await shop.gateway.heal()
    healed_at = time.monotonic()
    await shop.settled(within_s=120)
    print(f"\nnothing open {time.monotonic() - healed_at:.1f} s after the faults stopped", strikes)

    await _require_one_answer_each(shop, charges, given_up)
    await shop.check()
    await _require_equal_books(shop, charges)
    chaos.require(kill=size.kills)
    for fault, least in (
        ("hang_after_charge", 0.05), ("hang_before_charge", 0.05), ("error_after_charge", 0.02),
        ("duplicate_webhooks", 0.3), ("late", 0.002), ("decline", 0.01),
    ):  # fmt: skip
        assert strikes[fault] >= least * size.charges, strikes


async def _publish(
    shop: Any, charges: list[ChargePayment], given_up: list[ChargePayment], size: Size
) -> None:
    """In waves, each while the one before is under way; refunds follow a wave behind."""
    step = size.charges // size.waves
    doomed = {charge.order_id for charge in given_up}
    for start in range(0, size.charges + step, step):
        behind = charges[max(start - step, 0) : start]
        wave: list[Message] = [*charges[start : start + step]]
        wave += [refund_payment(one.order_id) for one in behind if one.order_id in doomed]
        await shop.topics.publish(COMMANDS, wave)
        seen = min(start, size.charges) // 2
        await eventually(
            lambda seen=seen: _count(shop, "SELECT count(*) FROM payment WHERE state <> 'PENDING'"),
            accept=lambda count, seen=seen: count >= seen,
            within_s=300,
            describe=f"{seen} payments have an outcome",
        )


async def _count(shop: Any, statement: str) -> int:
    async with shop.database.connection("payment") as connection:
        return int(await connection.fetchval(statement))


async def _require_one_answer_each(
    shop: Any, charges: list[ChargePayment], given_up: list[ChargePayment]
) -> None:
    """Each command has one answer, however often it was said; of what was given up the refund
    has, whatever became of the charge."""
    doomed = {charge.order_id for charge in given_up}
    kept = [charge for charge in charges if charge.order_id not in doomed]
    said = Counter(type(one).__name__ for one in await shop.answers(REPLIES, kept, within_s=300))
    assert said["PaymentCharged"] + said["PaymentRefused"] == len(kept)
    refunds = [refund_payment(order_id) for order_id in sorted(doomed)]
    effects = Counter(one.effect for one in await shop.answers(REPLIES, refunds, within_s=300))
    print(said, effects)
    assert said["PaymentCharged"]
    assert said["PaymentRefused"]
    assert len(effects) == 2  # some had been charged, some had not


async def _require_equal_books(shop: Any, charges: list[ChargePayment]) -> None:
    totals = await shop.gateway.totals()
    assert totals["double_charges"] == 0, totals
    order_ids = [charge.order_id for charge in charges]
    async with shop.database.connection("payment") as connection:
        ours = {row["order_id"]: (row["captured"], row["refunded"])
                for row in await connection.fetch(OURS, order_ids)}  # fmt: skip
        states = dict(await connection.fetch(STATES, order_ids))
    known, theirs = set(order_ids), dict[str, tuple[int, int]]()
    for line in await shop.gateway.book():
        if line["status"] == "captured" and line["reference"] in known:
            assert line["reference"] not in theirs
            theirs[line["reference"]] = line["amount"], line["refunded"]
    print(states, totals)
    assert ours == theirs
    for order_id, (captured, refunded) in theirs.items():
        assert refunded in (0, captured), order_id
