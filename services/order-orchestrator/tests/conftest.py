"""What tests of the orchestrator share: the participants' answers to its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.coupon import (
    CouponHeld,
    CouponRefusal,
    CouponRefused,
    CouponRestored,
    CouponUsed,
    HoldCoupon,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PricedLine
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentPart,
    PaymentRefunded,
    PaymentRefusal,
    PaymentRefused,
    PaymentSource,
    RefundPayment,
)
from shared.contracts.stock import (
    CommitStock,
    ReleaseStock,
    ReserveStock,
    StockCommitted,
    StockRefusal,
    StockRefused,
    StockReleased,
    StockReserved,
)

if TYPE_CHECKING:
    from shared.contracts.base import Message

UNIT_PRICE = 1_000
DISCOUNT = 100


class Answers:
    """What a participant says to a command. Pure: the same command gets the same answer."""

    def done(self, command: Message, effect: Effect = Effect.UNDONE) -> Any:
        """It is done; an undo found something, unless `effect` says otherwise."""
        key: dict[str, Any] = {name: getattr(command, name) for name in ("command_id", "order_id")}
        match command:
            case ReserveStock():
                items = tuple(
                    PricedLine(
                        product_id=line.product_id, quantity=line.quantity, unit_price=UNIT_PRICE
                    )
                    for line in command.items
                )
                return StockReserved(**key, items=items, currency="KRW")
            case HoldCoupon():
                discount = min(DISCOUNT, command.total)
                return CouponHeld(**key, discount=discount, currency=command.currency)
            case ChargePayment():
                part = PaymentPart(source=PaymentSource.WALLET, amount=command.amount)
                return PaymentCharged(**key, currency=command.currency, parts=(part,))
            case UseCoupon():
                return CouponUsed(**key)
            case CommitStock():
                return StockCommitted(**key)
            case ReleaseStock():
                return StockReleased(**key, effect=effect)
            case RestoreCoupon():
                return CouponRestored(**key, effect=effect)
            case RefundPayment():
                return PaymentRefunded(**key, effect=effect)
            case _:
                raise AssertionError(f"{command.type} is no command of a saga")

    def nothing(self, command: Message) -> Any:
        """An undo that found nothing to undo."""
        return self.done(command, Effect.NOTHING)

    def refused(self, command: Message) -> Any:
        """It did not happen and never will."""
        key: dict[str, Any] = {name: getattr(command, name) for name in ("command_id", "order_id")}
        match command:
            case ReserveStock() | CommitStock():
                return StockRefused(**key, reason=StockRefusal.OUT_OF_STOCK)
            case HoldCoupon() | UseCoupon():
                return CouponRefused(**key, reason=CouponRefusal.EXPIRED)
            case ChargePayment():
                return PaymentRefused(**key, reason=PaymentRefusal.INSUFFICIENT_BALANCE)
            case _:
                raise AssertionError(f"{command.type} can't be refused")


@pytest.fixture(scope="session")
def answers() -> Answers:
    """The participants' answers."""
    return Answers()
