"""Chunks on a real database: what is committed, answered, and said again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest

from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    DrawLottery,
    HoldCoupon,
    IssueCoupon,
    PutCampaign,
    RestoreCoupon,
    UseCoupon,
)

Coupons: TypeAlias = Any  # of conftest.py


def put(command_id: str = "put-1", **fields: Any) -> PutCampaign:
    given: dict[str, Any] = {
        "command_id": command_id,
        "coupon_id": "C",
        "kind": CampaignKind.FIRST_COME,
        "limit": 2,
        "discount": Discount(type=DiscountType.PERCENT, value=10, cap=3_000),
    }
    return PutCampaign(**given | fields)


def issue(command_id: str, user_id: str, coupon_id: str = "C") -> IssueCoupon:
    return IssueCoupon(command_id=command_id, coupon_id=coupon_id, user_id=user_id)


def hold(order_id: str, user_id: str = "u1", total: int = 20_000) -> HoldCoupon:
    return HoldCoupon(
        command_id=f"{order_id}:hold:do", order_id=order_id, user_id=user_id, coupon_id="C",
        total=total, currency="KRW",
    )  # fmt: skip


def use(order_id: str, user_id: str = "u1") -> UseCoupon:
    return UseCoupon(
        command_id=f"{order_id}:use:do", order_id=order_id, user_id=user_id, coupon_id="C"
    )


def restore(order_id: str, user_id: str = "u1") -> RestoreCoupon:
    return RestoreCoupon(
        command_id=f"{order_id}:hold:undo", order_id=order_id, user_id=user_id, coupon_id="C"
    )


def said(answers: list[dict[str, Any]]) -> list[Any]:
    """What each answer says, in short."""
    return [
        answer.get("reason") or answer.get("effect") or answer.get("discount")
        or answer.get("sequence") or answer["type"]
        for answer in answers
    ]  # fmt: skip


async def test_a_campaign_is_put_and_issued_in_one_chunk(coupons: Coupons) -> None:
    answers = await coupons.run(
        put(), issue("i1", "u1"), issue("i2", "u1"), issue("i3", "u2"), issue("i4", "u3")
    )

    assert said(answers) == ["CampaignPut", 1, "already_issued", 2, "sold_out"]
    assert await coupons.rows("SELECT user_id, sequence, state FROM coupon ORDER BY 2") == [
        ("u1", 1, "ISSUED"),
        ("u2", 2, "ISSUED"),
    ]
    stored = await coupons.rows("SELECT issued_at FROM coupon WHERE user_id = 'u1'")
    assert datetime.fromisoformat(answers[1]["issuedAt"]) == stored[0][0]
    assert await coupons.violations() == set()


async def test_a_change_of_a_campaign_is_stored_whole(coupons: Coupons) -> None:
    await coupons.run(put(), issue("i1", "u1"))
    ((before,),) = await coupons.rows("SELECT fence FROM campaign")
    starts_at = datetime(2026, 1, 1, tzinfo=UTC)
    change = put(
        "put-2", limit=7, starts_at=starts_at, ends_at=starts_at + timedelta(days=9),
        discount=Discount(type=DiscountType.FIXED, value=5),
    )  # fmt: skip

    await coupons.run(change)

    ends_at = starts_at + timedelta(days=9)
    ((*said, fence),) = await coupons.rows(
        "SELECT kind, coupon_limit, issued, discount_type, discount_value, discount_cap,"
        " starts_at, ends_at, expires_at, fence FROM campaign"
    )
    assert said == ["first_come", 7, 1, "fixed", 5, None, starts_at, ends_at, ends_at]
    assert fence > before, "no gate of the old limit counts any more"


async def test_f1_requests_that_come_again_get_their_first_answer(coupons: Coupons) -> None:
    requests = [put(), issue("i1", "u1"), issue("i2", "u2"), issue("i3", "u3")]
    first = await coupons.run(*requests)
    # by now a new request would be told otherwise
    await coupons.run(put("put-2", limit=9))

    again = await coupons.replica(1).run(*requests)

    key = str
    assert sorted(again, key=key) == sorted(first, key=key)
    assert await coupons.rows("SELECT issued, coupon_limit FROM campaign") == [(2, 9)]


async def test_f3_a_request_that_was_sold_out_stays_refused(coupons: Coupons) -> None:
    await coupons.run(put(limit=1), issue("i1", "u1"), issue("i2", "u2"))
    await coupons.run(put("put-2", limit=5))

    assert said(await coupons.run(issue("i2", "u2"))) == ["sold_out"]
    assert said(await coupons.run(issue("i3", "u2"))) == [2]


async def test_the_life_of_a_coupon(coupons: Coupons) -> None:
    await coupons.run(put(), issue("i1", "u1"))

    assert said(await coupons.run(hold("o1"))) == [2_000]
    assert said(await coupons.run(hold("o2"), use("o1"))) == [
        "held_by_another_order",
        "CouponUsed",
    ]
    assert said(await coupons.run(hold("o3"), restore("o1"), hold("o4", total=99_999))) == [
        "already_used",
        "undone",
        3_000,
    ]
    assert await coupons.rows("SELECT order_id, state, used FROM coupon_hold ORDER BY 1") == [
        ("o1", "RESTORED", True),
        ("o2", "REFUSED", False),
        ("o3", "REFUSED", False),
        ("o4", "HELD", False),
    ]
    assert await coupons.rows("SELECT state, order_id FROM coupon") == [("HELD", "o4")]
    assert await coupons.violations() == set()


async def test_f1_commands_that_come_again_change_nothing(coupons: Coupons) -> None:
    await coupons.run(put(limit=9), *(issue(f"i{n}", f"u{n}") for n in range(3)))
    chunks = [
        [hold("o0", "u0"), hold("o1", "u1"), hold("o2", "u1"), restore("o3", "u2")],
        [use("o0", "u0"), restore("o1", "u1"), hold("o3", "u2"), hold("o4", "nobody")],
        [restore("o0", "u0"), use("o1", "u1"), restore("o4", "nobody")],
    ]
    first = [answer for chunk in chunks for answer in await coupons.run(*chunk)]
    before = (
        await coupons.rows("SELECT * FROM coupon_hold ORDER BY 1"),
        await coupons.rows("SELECT * FROM coupon ORDER BY 1, 2"),
    )

    again = await coupons.replica(1).run(*(command for chunk in chunks for command in chunk))
    backwards = await coupons.run(*(command for chunk in chunks[::-1] for command in chunk[::-1]))

    assert again == first
    assert sorted(backwards, key=str) == sorted(first, key=str)
    assert before == (
        await coupons.rows("SELECT * FROM coupon_hold ORDER BY 1"),
        await coupons.rows("SELECT * FROM coupon ORDER BY 1, 2"),
    )
    assert await coupons.violations() == set()


async def test_f14_a_restore_before_its_hold(coupons: Coupons) -> None:
    await coupons.run(put(), issue("i1", "u1"))

    assert said(await coupons.run(restore("o1"))) == ["nothing"]
    assert said(await coupons.run(hold("o1"))) == ["already_restored"]
    assert await coupons.rows("SELECT state FROM coupon") == [("ISSUED",)]


@pytest.mark.parametrize(
    ("starts_in", "ends_in", "verdicts"),
    [
        ("1 hour", "2 hours", ["not_open", "not_issued"]),
        ("-2 hours", "-1 hour", ["not_open", "not_issued"]),
        ("-1 hour", "1 hour", [1, 2_000]),
    ],
)
async def test_f61_a_campaign_runs_by_the_clock_of_the_database(
    starts_in: str, ends_in: str, verdicts: list[Any], coupons: Coupons
) -> None:
    await coupons.run(put())
    await coupons.pool.execute(
        f"UPDATE campaign SET starts_at = now() + interval '{starts_in}',"
        f" ends_at = now() + interval '{ends_in}', expires_at = now() + interval '{ends_in}'"
    )

    answers = [*await coupons.run(issue("i1", "u1")), *await coupons.run(hold("o1"))]

    assert said(answers) == verdicts


async def test_f61_a_coupon_expires_with_its_campaign_but_not_in_an_order(coupons: Coupons) -> None:
    await coupons.run(put(), issue("i1", "u1"), issue("i2", "u2"))
    await coupons.run(hold("o1"))
    await coupons.pool.execute("UPDATE campaign SET expires_at = now() - interval '1 second'")

    assert said(await coupons.run(hold("o2", "u2"), use("o1"))) == ["expired", "CouponUsed"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (put("x", limit=1), "campaign_conflict"),
        (put("x", kind=CampaignKind.LOTTERY), "campaign_conflict"),
        (put("x", rule="true"), "invalid_rule"),
        (DrawLottery(command_id="x", coupon_id="C"), "not_a_lottery"),
        (DrawLottery(command_id="x", coupon_id="L"), "unknown_campaign"),
    ],
)
async def test_what_can_not_be_obeyed_is_answered_and_leaves_its_id_free(
    command: PutCampaign | DrawLottery, reason: str, coupons: Coupons
) -> None:
    await coupons.run(put(), issue("i1", "u1"), issue("i2", "u2"))

    answers = await coupons.run(command, issue("i3", "u3"))

    assert [(a["type"], a["reason"], a["commandId"]) for a in answers if a["commandId"] == "x"] == [
        ("CommandRefused", reason, "x")
    ]
    assert said([a for a in answers if a["commandId"] == "i3"]) == ["sold_out"]
    assert coupons.replica().dead_letters == [("coupon-requests.dlq.v1", reason)]
    assert said(await coupons.run(put("x", limit=3))) == ["CampaignPut"]


async def test_a_command_of_another_coupon_stands_alone_in_the_dead_letters(
    coupons: Coupons,
) -> None:
    """It is a bug of its sender: the good commands of its chunk go on."""
    await coupons.run(put(), issue("i1", "u1"), issue("i2", "u2"))
    await coupons.run(hold("o1", "u1"))

    answers = await coupons.run(hold("o2", "u2"), use("o1", "u2"), restore("o1", "u1"))

    assert said(answers) == [2_000, "undone"]
    assert coupons.replica().dead_letters == [("coupon.dlq.v1", "handling_failed")]
    assert await coupons.violations() == set()


async def test_a_user_has_several_coupons_each_for_an_order_of_its_own(coupons: Coupons) -> None:
    """All in one chunk; a coupon is known by its campaign and its user."""
    names = ["A", "B", "C"]
    await coupons.run(
        *(
            put(
                f"put-{one}", coupon_id=one, discount=Discount(type=DiscountType.FIXED, value=worth)
            )
            for one, worth in zip(names, (100, 20_000, 30_000), strict=True)
        ),
        *(issue(f"i-{one}", "u1", one) for one in names),
    )

    held = await coupons.run(
        *(hold(f"o-{one}").model_copy(update={"coupon_id": one}) for one in names),
        hold("o-again"),
    )
    others = await coupons.run(hold("o-other", "u2"))

    assert said(held) == [100, 20_000, 20_000, "held_by_another_order"]
    assert said(others) == ["not_issued"]
    assert await coupons.rows("SELECT coupon_id, order_id FROM coupon ORDER BY 1") == [
        (one, f"o-{one}") for one in names
    ]
    assert await coupons.violations() == set()
