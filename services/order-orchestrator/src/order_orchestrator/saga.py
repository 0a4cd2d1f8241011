"""The order saga as a table of steps.

    reserve ─▶ hold ─▶ charge ═▶ use, commit          ═ is the pivot: `PaymentCharged`
       ▲         ▲        ▲
    release ◀─ restore ◀─ refund                      undo, in reverse

Before the pivot one `do` is out at a time, and each step has an undo. What follows the pivot is
sent at once, retried until it is done, never undone. Builders are pure functions from the saga
to a contract message; command ids are derived, so that sending again is the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from order_orchestrator.domain import (
    UNDO_OWED,
    Owed,
    Price,
    Saga,
    SagaState,
    StepStatus,
)
from shared.contracts.base import Message
from shared.contracts.coupon import (
    CouponHeld,
    CouponRefused,
    CouponRestored,
    CouponUsed,
    HoldCoupon,
    RestoreCoupon,
    UseCoupon,
)
from shared.contracts.payment import (
    ChargePayment,
    PaymentCharged,
    PaymentRefunded,
    PaymentRefused,
    RefundPayment,
)
from shared.contracts.stock import (
    CommitStock,
    ReleaseStock,
    ReserveStock,
    StockCommitted,
    StockRefused,
    StockReleased,
    StockReserved,
)

DEFINITION_VERSION: Final = 1
"""Raised when the steps or their meaning change. Sagas of older versions finish on newer code."""

Reply = (
    StockReserved
    | StockRefused
    | StockCommitted
    | StockReleased
    | CouponHeld
    | CouponRefused
    | CouponUsed
    | CouponRestored
    | PaymentCharged
    | PaymentRefused
    | PaymentRefunded
)
Builder = Callable[[Saga], Message]


@dataclass(frozen=True, slots=True)
class Step:
    """`state` is the saga's while the `do` is out. `skipped` says that there is nothing to do."""

    name: str
    topic: str
    state: SagaState
    do: Builder
    done: type[Message]
    refused: type[Message] | None
    undo: Builder | None = None
    undone: type[Message] | None = None
    skipped: Callable[[Saga], bool] = lambda saga: False


def _id(saga: Saga, step_and_direction: str) -> str:
    return f"{saga.order.order_id}:{step_and_direction}"


def _no_coupon(saga: Saga) -> bool:
    return saga.order.coupon_id is None


def _nothing_to_pay(saga: Saga) -> bool:
    return priced(saga).total == 0


def _reserve(saga: Saga) -> Message:
    order = saga.order
    return ReserveStock(
        command_id=_id(saga, "reserve:do"),
        order_id=order.order_id,
        user_id=order.user_id,
        items=order.lines,
    )


def _release(saga: Saga) -> Message:
    return ReleaseStock(command_id=_id(saga, "reserve:undo"), order_id=saga.order.order_id)


def _hold(saga: Saga) -> Message:
    order = saga.order
    return HoldCoupon(
        command_id=_id(saga, "hold:do"),
        order_id=order.order_id,
        user_id=order.user_id,
        coupon_id=coupon_of(saga),
        total=priced(saga).subtotal,
        currency=order.currency,
    )


def _restore(saga: Saga) -> Message:
    order = saga.order
    return RestoreCoupon(
        command_id=_id(saga, "hold:undo"),
        order_id=order.order_id,
        user_id=order.user_id,
        coupon_id=coupon_of(saga),
    )


def _charge(saga: Saga) -> Message:
    order, total = saga.order, priced(saga).total
    return ChargePayment(
        command_id=_id(saga, "charge:do"),
        order_id=order.order_id,
        user_id=order.user_id,
        amount=total,
        currency=order.currency,
        method=saga.payment.method,
        points=min(saga.payment.points, total),
    )


def _refund(saga: Saga) -> Message:
    return RefundPayment(command_id=_id(saga, "charge:undo"), order_id=saga.order.order_id)


def _use(saga: Saga) -> Message:
    order = saga.order
    return UseCoupon(
        command_id=_id(saga, "use:do"),
        order_id=order.order_id,
        user_id=order.user_id,
        coupon_id=coupon_of(saga),
    )


def _commit(saga: Saga) -> Message:
    return CommitStock(command_id=_id(saga, "commit:do"), order_id=saga.order.order_id)


_STOCK, _COUPON, _PAYMENT = "stock.commands.v1", "coupon.commands.v1", "payment.commands.v1"

# fmt: off
STEPS: Final = (
    Step("reserve", _STOCK, SagaState.RESERVING,
         do=_reserve, done=StockReserved, refused=StockRefused,
         undo=_release, undone=StockReleased),
    Step("hold", _COUPON, SagaState.HOLDING, skipped=_no_coupon,
         do=_hold, done=CouponHeld, refused=CouponRefused,
         undo=_restore, undone=CouponRestored),
    Step("charge", _PAYMENT, SagaState.CHARGING, skipped=_nothing_to_pay,
         do=_charge, done=PaymentCharged, refused=PaymentRefused,
         undo=_refund, undone=PaymentRefunded),
    # ═══ the pivot ═══
    Step("use", _COUPON, SagaState.COMPLETING, skipped=_no_coupon,
         do=_use, done=CouponUsed, refused=CouponRefused),       # `RestoreCoupon` ends it, too
    Step("commit", _STOCK, SagaState.COMPLETING,
         do=_commit, done=StockCommitted, refused=StockRefused),
)
# fmt: on
RESERVE, HOLD, CHARGE, USE, COMMIT = range(len(STEPS))
PIVOT: Final = CHARGE + 1
"""The steps before this place can be undone, those from it on can't."""
NOTHING_STARTED: Final = (StepStatus.NOT_STARTED,) * len(STEPS)

COMMANDS: Final[Mapping[str, tuple[int, bool]]] = MappingProxyType(
    {
        f"{step.name}:{direction}": (place, direction == "undo")
        for place, step in enumerate(STEPS)
        for direction in (("do", "undo") if step.undo else ("do",))
    }
)
"""What follows the order id in a command id -> the step's place, and whether it is the undo."""


class UnfitSaga(Exception):
    """The saga's record lacks what its state needs. A fault of the program or of the row."""


def priced(saga: Saga) -> Price:
    """The price, known from the reservation on. Raises `UnfitSaga` before."""
    if saga.price is None:
        raise UnfitSaga(f"order {saga.order.order_id} has no price in {saga.state}")
    return saga.price


def coupon_of(saga: Saga) -> str:
    """The campaign. Raises `UnfitSaga` where the order has none."""
    if saga.order.coupon_id is None:
        raise UnfitSaga(f"order {saga.order.order_id} has no coupon in {saga.state}")
    return saga.order.coupon_id


def owed(saga: Saga) -> Owed:
    """What is open at the participants: what may be done and isn't undone, or isn't yet completed.

    A step in doubt counts as done. What an operator settled is owed no more.
    """
    steps, order = saga.steps, saga.order
    confirmed = saga.state in (SagaState.COMPLETING, SagaState.CONFIRMED)
    open_places = [
        place
        for place, status in enumerate(steps)
        if status is StepStatus.SENT
        or status in UNDO_OWED
        or (status is StepStatus.DONE and place < PIVOT and not confirmed)
    ]
    return Owed(
        units=order.lines if {RESERVE, COMMIT} & set(open_places) else (),
        money=priced(saga).total if CHARGE in open_places else 0,
        currency=order.currency,
        coupon_id=order.coupon_id if {HOLD, USE} & set(open_places) else None,
        steps=tuple(STEPS[place].name for place in open_places),
    )
