"""The messages themselves: identity, fingerprints, times, closed lists, and rules of their own."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.base import MAX_DERIVED_ID_CHARS, Message, fingerprint, message_id
from shared.contracts.coupon import (
    CampaignKind,
    CouponRefusal,
    CouponRequestRefused,
    Discount,
    DiscountType,
    HoldCoupon,
    PutCampaign,
)
from shared.contracts.orders import (
    CancelOrder,
    CouponDetail,
    Line,
    LineDetail,
    OrderConfirmed,
    OrderRejected,
    OrderStatus,
    OutcomeReason,
    PaymentChoice,
    PaymentMethod,
    PayOrder,
    PayTiming,
    PlaceOrder,
    PricedLine,
    sum_lines,
)
from shared.contracts.payment import ChargePayment, PaymentRefusal, RefundPayment
from shared.contracts.reading import Unreadable, reader_of, type_name
from shared.contracts.refusals import CommandRefusal, CommandRefused
from shared.contracts.schemas import all_messages
from shared.contracts.stock import ReserveStock, StockLevel, StockLow, StockRefusal
from shared.contracts.topics import TOPICS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EXAMPLES = Path(__file__).parents[4] / "examples" / "messages"


def place(**changes: Any) -> PlaceOrder:
    fields: dict[str, Any] = {
        "order_id": "o-1",
        "user_id": "user_1",
        "items": (Line(product_id="P001", quantity=2),),
    }
    return PlaceOrder(**{**fields, **changes})


def lines(*pairs: tuple[str, int]) -> tuple[Line, ...]:
    return tuple(Line(product_id=product_id, quantity=quantity) for product_id, quantity in pairs)


def confirmed(**changes: Any) -> OrderConfirmed:
    fields: dict[str, Any] = {
        "order_id": "o-1",
        "user_id": "user_1",
        "version": 5,
        "at": NOON,
        "items": (PricedLine(product_id="P001", quantity=2, unit_price=500),),
        "total": 900,
        "discount": 100,
        "currency": "KRW",
    }
    return OrderConfirmed(**{**fields, **changes})


def test_a_type_is_the_name_of_its_class() -> None:
    others = {m.__name__: type_name(m) for m in all_messages() if type_name(m) != m.__name__}
    assert others == {"CouponRequestRefused": "CouponRefused"}


def test_bytes_are_compact_and_leave_out_what_is_absent() -> None:
    assert confirmed().to_bytes() == (
        b'{"type":"OrderConfirmed","orderId":"o-1","version":5,"at":"2026-01-31T12:00:00.000Z",'
        b'"userId":"user_1","status":"CONFIRMED",'
        b'"items":[{"productId":"P001","quantity":2,"unitPrice":500}],'
        b'"total":900,"discount":100,"currency":"KRW","eventId":"o-1:OrderConfirmed"}'
    )


def test_messages_are_frozen() -> None:
    with pytest.raises(ValidationError):
        confirmed().total = 0


class TestIdentity:
    def test_of_a_command_is_its_id(self) -> None:
        command = ChargePayment(
            command_id="o-1:charge:do",
            order_id="o-1",
            user_id="user_1",
            amount=900,
            currency="KRW",
            method=PaymentMethod.WALLET,
            points=0,
        )
        assert message_id(command) == "o-1:charge:do"

    def test_of_an_order_is_its_order_id(self) -> None:
        assert message_id(place()) == "o-1"

    def test_of_an_event_is_order_and_type(self) -> None:
        assert message_id(confirmed()) == "o-1:OrderConfirmed"

    def test_of_a_level_is_product_and_version(self) -> None:
        level = StockLevel(
            product_id="P1", available=1, reserved=0, sold=0, received=1, version=7, at=NOON
        )
        assert message_id(level) == "P1:7"
        low = StockLow(product_id="P1", available=1, threshold=2, version=7, at=NOON)
        assert message_id(low) == "P1:7"

    def test_every_message_has_one(self) -> None:
        for message in all_messages():
            fields = set(message.model_fields) | {"level_id"}
            assert message.identity in fields, message

    def test_commands_without_an_id_get_one_from_their_order(self) -> None:
        assert message_id(PayOrder(order_id="o-1", user_id="u")) == "o-1:pay"
        assert message_id(CancelOrder(order_id="o-1", user_id="u")) == "o-1:cancel"
        assert PayOrder(order_id="o-1", user_id="u", command_id="mine").command_id == "mine"

    @pytest.mark.parametrize("command_id", ["o-2:pay", "o-1:cancel", "a:b", "x" * 65, "", "a b"])
    def test_derived_ids_are_not_for_senders_to_choose(self, command_id: str) -> None:
        with pytest.raises(ValidationError):
            PayOrder(order_id="o-1", user_id="u", command_id=command_id)


class TestRefusalsOfCommands:
    def refused(self, **changes: Any) -> CommandRefused:
        fields: dict[str, Any] = {
            "command_id": "c-1",
            "command": "PayOrder",
            "key": "o-1",
            "reason": CommandRefusal.TOO_LATE,
            "detail": "",
        }
        return CommandRefused(**{**fields, **changes})

    def test_event_id_tells_command_and_reason(self) -> None:
        assert self.refused().event_id == "c-1:PayOrder:too_late"
        ids = {
            self.refused(**changes).event_id
            for changes in (
                {},
                {"command_id": "c-2"},
                {"command": "CancelOrder"},
                {"reason": CommandRefusal.COMMAND_ID_REUSED},
            )
        }
        assert len(ids) == 4

    @pytest.mark.parametrize("reason", CommandRefusal)
    def test_the_longest_event_id_fits(self, reason: CommandRefusal) -> None:
        names = [type_name(message) for message in all_messages()]
        longest = max([*names, "A" * 32], key=len)
        command_id = "x" * 64 + ":cancel"
        refusal = self.refused(command_id=command_id, command=longest, reason=reason)
        assert len(refusal.event_id) <= MAX_DERIVED_ID_CHARS


class TestFingerprints:
    @pytest.mark.parametrize(
        "same",
        [
            {"reference": "another"},
            {"payment": PaymentChoice(method=PaymentMethod.WALLET, points=0)},
            {"pay": PayTiming.NOW},
            {"items": lines(("P001", 1), ("P001", 1))},
        ],
    )
    def test_of_an_order_do_not_see(self, same: dict[str, Any]) -> None:
        assert fingerprint(place(**same)) == fingerprint(place())

    @pytest.mark.parametrize(
        "other",
        [
            {"user_id": "user_2"},
            {"items": lines(("P001", 3))},
            {"items": lines(("P002", 2))},
            {"items": lines(("P001", 2), ("P002", 2))},
            {"coupon_id": "WELCOME10"},
            {"payment": PaymentChoice(method=PaymentMethod.GATEWAY)},
            {"payment": PaymentChoice(points=1)},
            {"pay": PayTiming.LATER},
            {"expected_total": 0},
        ],
    )
    def test_of_an_order_see(self, other: dict[str, Any]) -> None:
        assert fingerprint(place(**other)) != fingerprint(place())

    def test_of_an_order_do_not_see_the_order_of_lines(self) -> None:
        there = place(items=lines(("a", 1), ("b", 2), ("c", 3)))
        back = place(items=lines(("c", 3), ("b", 2), ("a", 1)))
        assert fingerprint(there) == fingerprint(back)

    def test_of_others_cover_type_and_content_but_not_spacing_or_unknown_fields(self) -> None:
        reader = reader_of(TOPICS["wallet.requests.v1"])
        body = b'"commandId":"c","userId":"u","amount":5,"currency":"KRW"}'
        values = {
            name: reader.read(b'{"type":"TopUpWallet",' + text)
            for name, text in {
                "plain": body,
                "spaced": b'  "amount" : 5,"currency":"KRW", "userId":"u","commandId":"c" }',
                "later": b'"new":1,' + body,
                "more": body.replace(b"5", b"6"),
            }.items()
        }
        values["points"] = reader.read(b'{"type":"GrantPoints",' + body)
        prints: dict[str, bytes] = {}
        for name, value in values.items():
            assert not isinstance(value, Unreadable)
            prints[name] = fingerprint(value)
        assert prints["plain"] == prints["spaced"] == prints["later"]
        assert len(set(prints.values())) == 3
        assert {len(value) for value in prints.values()} == {16}

    def test_do_not_change_with_the_code(self) -> None:
        """They are stored for good: a change makes duplicates look like other content.

        `PlaceOrder`: raise FINGERPRINT_VERSION and keep the old one readable. Others: a new field
        must have a default.
        """
        readers = [reader_of(TOPICS[name]) for name in TOPICS if TOPICS[name].public]
        prints = {message.type: fingerprint(message).hex() for message in INTERNAL}
        for file in sorted(EXAMPLES.glob("*.json")):
            for reader in readers:
                message = reader.read(file.read_bytes())
                if isinstance(message, Message):
                    prints[file.stem] = fingerprint(message).hex()
        assert prints == GOLDEN


class TestLines:
    def test_are_summed_and_sorted(self) -> None:
        order = place(items=lines(("b", 1), ("a", 2), ("b", 3)))
        assert order.lines() == lines(("a", 2), ("b", 4))

    def test_f8_limits_hold_after_the_sum(self) -> None:
        place(items=lines(*[("a", 100)] * 100))
        place(items=lines(*[(f"p{i}", 1) for i in range(100)], *[("p1", 1)] * 50))
        with pytest.raises(ValidationError, match="10001 units of a"):
            place(items=lines(("a", 10_000), ("a", 1)))
        with pytest.raises(ValidationError, match="101 products"):
            place(items=lines(*[(f"p{i}", 1) for i in range(101)]))
        with pytest.raises(ValidationError, match="at most 1000"):
            place(items=lines(*[("a", 1)] * 1_001))
        with pytest.raises(ValidationError):
            place(items=())

    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 100)), min_size=1))
    def test_no_unit_is_lost_in_the_sum(self, pairs: list[tuple[str, int]]) -> None:
        summed = sum_lines(lines(*pairs))
        ids = [line.product_id for line in summed]
        assert ids == sorted(set(ids))
        assert sum(line.quantity for line in summed) == sum(quantity for _, quantity in pairs)

    @pytest.mark.parametrize("products", [("b", "a"), ("a", "a"), ("a", "b", "b")])
    def test_of_a_reservation_rise(self, products: tuple[str, ...]) -> None:
        with pytest.raises(ValidationError, match="sorted"):
            ReserveStock(
                command_id="o:reserve:do",
                order_id="o",
                user_id="u",
                items=lines(*[(product_id, 1) for product_id in products]),
            )


class TestTimes:
    def test_are_utc_with_milliseconds(self) -> None:
        seoul = timezone(timedelta(hours=9))
        at = datetime(2026, 1, 31, 21, 0, 0, 123_999, tzinfo=seoul)
        event = confirmed(at=at)
        assert event.at == NOON + timedelta(milliseconds=123)
        assert b'"at":"2026-01-31T12:00:00.123Z"' in event.to_bytes()

    def test_without_a_zone_are_none(self) -> None:
        with pytest.raises(ValidationError):
            confirmed(at=NOON.replace(tzinfo=None))

    @pytest.mark.parametrize(
        ("text", "read"),
        [
            ("2026-01-31T12:00:00Z", NOON),
            ("2026-01-31T12:00:00.5Z", NOON + timedelta(milliseconds=500)),
            ("2026-01-31T21:00:00.000000001+09:00", NOON),
            ("2026-01-31T12:00:00-00:00", NOON),
            ("2026-01-31", None),
            ("2026-01-31 12:00:00Z", None),
            ("2026-01-31T12:00:00", None),
            ("2026-01-31T12:00Z", None),
            ("2026-02-31T12:00:00Z", None),
            ("2026-01-31T12:00:00+24:00", None),
            ("0001-01-01T00:00:00+14:00", None),
            ("1700000000", None),
        ],
    )
    def test_are_read_as_rfc_3339(self, text: str, read: datetime | None) -> None:
        value = confirmed().to_bytes().replace(b"2026-01-31T12:00:00.000Z", text.encode())
        event = reader_of(TOPICS["orders.events.v1"]).read(value)
        assert (event.at if isinstance(event, OrderConfirmed) else None) == read


class TestClosedLists:
    """As the design states them; a change here is a change of the contract."""

    def test_outcomes(self) -> None:
        assert list(OutcomeReason) == [
            "out_of_stock", "unknown_product", "temporarily_unavailable", "coupon_refused",
            "insufficient_balance", "payment_declined", "price_changed", "currency_mismatch",
            "payment_timeout", "saga_timeout", "cancelled_by_user", "cancelled_by_operator",
            "settled_by_operator", "invalid_command",
        ]  # fmt: skip

    def test_statuses(self) -> None:
        assert list(OrderStatus) == [
            "PENDING", "AWAITING_PAYMENT", "COMPENSATING", "CONFIRMED", "REJECTED", "CANCELLED",
        ]  # fmt: skip

    def test_kinds_of_campaigns(self) -> None:
        kinds = {"first_come", "queued", "locked", "lottery", "conditional"}
        assert set(CampaignKind) == kinds

    def test_refusals_of_coupons_are_a_coupon_reason(self) -> None:
        assert {"sold_out", "already_issued", "not_eligible", "unknown_campaign", "not_open",
                "not_held"} < set(CouponRefusal)  # fmt: skip
        for reason in CouponRefusal:
            CouponDetail(coupon_reason=reason)

    def test_refusals_name_outcomes_or_are_said_to_be_none(self) -> None:
        own = {
            *(set(StockRefusal) - set(OutcomeReason)),
            *(set(PaymentRefusal) - set(OutcomeReason)),
        }
        assert own == {
            "over_order_limit", "already_released", "not_reserved",
            "method_unavailable", "already_refunded",
        }  # fmt: skip


class TestCampaigns:
    def put(self, **changes: Any) -> PutCampaign:
        fields: dict[str, Any] = {
            "command_id": "c",
            "coupon_id": "k",
            "kind": CampaignKind.FIRST_COME,
            "limit": 10,
            "discount": Discount(type=DiscountType.PERCENT, value=100),
        }
        return PutCampaign(**{**fields, **changes})

    def test_a_percentage_is_at_most_a_hundred(self) -> None:
        self.put()
        with pytest.raises(ValidationError, match="percentage"):
            Discount(type=DiscountType.PERCENT, value=101)
        Discount(type=DiscountType.FIXED, value=101)

    def test_end_after_start(self) -> None:
        self.put(starts_at=NOON, ends_at=NOON + timedelta(seconds=1))
        with pytest.raises(ValidationError, match="endsAt"):
            self.put(starts_at=NOON, ends_at=NOON)

    def test_conditions_need_a_rule(self) -> None:
        self.put(kind=CampaignKind.CONDITIONAL, rule="user.tier == 'gold'")
        with pytest.raises(ValidationError, match="rule"):
            self.put(kind=CampaignKind.CONDITIONAL)


@pytest.mark.parametrize(
    ("fact", "readable"),
    [
        ("true", True),
        ("5", True),
        ('"gold"', True),
        ('["a",1,false]', True),
        ("[]", True),
        ("1.5", False),
        ("[1.5]", False),
        ("[[1]]", False),
        ("{}", False),
        ("null", False),
        ("1" * 20, False),
        ('"' + "x" * 257 + '"', False),
    ],
)
def test_f7_facts_are_text_integers_and_booleans(fact: str, readable: bool) -> None:
    value = f'{{"type":"IssueCoupon","commandId":"c","couponId":"k","userId":"u","facts":{{"user":{{"f":{fact}}}}}}}'  # noqa: E501
    read = reader_of(TOPICS["coupon.requests.v1"]).read(value.encode())
    assert isinstance(read, Message) is readable, read


def test_a_rejection_may_lack_the_user_and_carries_details() -> None:
    event = OrderRejected(
        order_id="o-1",
        version=1,
        at=NOON,
        reason=OutcomeReason.OUT_OF_STOCK,
        details=(
            LineDetail(product_id="P001", requested=2, available=1),
            CouponDetail(coupon_reason=CouponRefusal.EXPIRED),
        ),
    )
    assert reader_of(TOPICS["orders.events.v1"]).read(event.to_bytes()) == event
    assert b"userId" not in event.to_bytes()


def test_a_refusal_without_order_is_another_model_of_the_same_type() -> None:
    refusal = CouponRequestRefused(
        command_id="c", coupon_id="k", user_id="u", reason=CouponRefusal.SOLD_OUT
    )
    assert reader_of(TOPICS["coupon.events.v1"]).read(refusal.to_bytes()) == refusal
    assert isinstance(reader_of(TOPICS["coupon.replies.v1"]).read(refusal.to_bytes()), Unreadable)


INTERNAL: list[Message] = [
    ReserveStock(
        command_id="o-1:reserve:do",
        order_id="o-1",
        user_id="user_1",
        items=lines(("P001", 2), ("P002", 1)),
    ),
    HoldCoupon(
        command_id="o-1:hold:do",
        order_id="o-1",
        user_id="user_1",
        coupon_id="WELCOME10",
        total=1_000,
        currency="KRW",
    ),
    ChargePayment(
        command_id="o-1:charge:do",
        order_id="o-1",
        user_id="user_1",
        amount=900,
        currency="KRW",
        method=PaymentMethod.WALLET,
        points=0,
    ),
    RefundPayment(command_id="o-1:charge:undo", order_id="o-1"),
]

GOLDEN: dict[str, str] = {
    "ReserveStock": "c50eed6f7d31cb1a98e93942a74fa33b",
    "HoldCoupon": "300b19114e154a61b762bf052e09762d",
    "ChargePayment": "9988d63a36b9096a859532bb6ae079bc",
    "RefundPayment": "982cb9510b1f44f9b93556aec58cd189",
    "AdjustStock": "2dbb6e60cdd348a33c3a894ec861e57f",
    "CancelOrder": "649701a11f70b16313728f9cfce404d2",
    "DrawLottery": "4908589420ef6ee537fd118b6891f8bf",
    "EnterLottery": "4afb01e4fee49dbf871deb56a7ecb4ab",
    "GrantPoints": "04d9ca6479d9db4c6f5816cc0d613737",
    "IssueCoupon": "b9e8ee7a4b4b8097307dde83190e3842",
    "PayOrder": "e9339b826d5299340eb39112c1e16949",
    "PlaceOrder": "02fc4f65ab464d643cab234b2d638c63",
    "PlaceOrder.later": "0d415c6f811551f7cb29c395c3df67ba",
    "PlaceOrder.minimal": "c128120f1c2b1ca453517e4aaa37b93b",
    "PutCampaign.conditional": "de16bb2d5891ffc48221b1a4c1899b6c",
    "PutCampaign": "08401bb015362824d6bcb82a710e784e",
    "PutCampaign.lottery": "beee3348ba7d498ddfaaea27f2935bcf",
    "PutProduct": "dc41fe89b9231bfc93c51384e55f16f9",
    "SetStockStrategy": "5d457f403544bb69ba544992edc54fea",
    "TopUpWallet": "1cd68fdf2394b7dc73c90fdcc7b950a9",
}
