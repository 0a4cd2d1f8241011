"""The order saga as a table of steps.

    reserve ─▶ hold ─▶ charge ═▶ use, commit          ═ is the pivot: `PaymentCharged`
       ▲         ▲        ▲
    release ◀─ restore ◀─ refund                      undo, in reverse

Before the pivot one `do` is out at a time, and each step has an undo. What follows the pivot is
sent at once, retried until it is done, never undone. Builders are pure functions from the saga
to a contract message; command ids are derived, so that sending again is the same command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Final

from order_orchestrator.domain import (
    UNDO_OWED,
    Order,
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
from shared.contracts.order_parts import OutcomeReason
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
"""Raised when steps or their meaning change, not with times. Older sagas finish on newer code."""

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
class Wrong:
    """The reply contradicts its command: a participant's fault, for an operator to look at."""

    why: str


Learned = Price | OutcomeReason | Wrong | None
"""What a done reply tells: the price as it is known now, or why the saga can't go on."""


def _never(order: Order, price: Price | None) -> bool:
    return False


def _no_coupon(order: Order, price: Price | None) -> bool:
    return order.coupon_id is None


def _nothing_to_pay(order: Order, price: Price | None) -> bool:
    return price is not None and price.total == 0


@dataclass(frozen=True, slots=True)
class Step:
    """`state` is the saga's while the `do` is out. `skipped` says that there is nothing to do,
    `learn` takes from the done reply what later steps need."""

    name: str
    topic: str
    state: SagaState
    do: Builder
    done: type[Message]
    refused: type[Message] | None
    undo: Builder | None = None
    undone: type[Message] | None = None
    skipped: Callable[[Order, Price | None], bool] = _never
    learn: Callable[[Saga, Any], Learned] = lambda saga, reply: saga.price


def _id(saga: Saga, step_and_direction: str) -> str:
    return f"{saga.order.order_id}:{step_and_direction}"


def _reserve(saga: Saga) -> Message:
    order = saga.order
    return ReserveStock(
        command_id=_id(saga, "reserve:do"),
        order_id=order.order_id,
        user_id=order.user_id,
        items=order.lines,
    )


def _learn_prices(saga: Saga, reply: StockReserved) -> Learned:
    order = saga.order
    if reply.currency != order.currency:
        return OutcomeReason.CURRENCY_MISMATCH
    subtotal = 0
    for line, item in zip_longest(order.lines, reply.items):
        if line is None or item is None or line.product_id != item.product_id:
            return Wrong("other products were reserved than ordered")
        if line.quantity != item.quantity:
            return Wrong(f"{item.quantity} of {item.product_id} were reserved")
        subtotal += item.quantity * item.unit_price
    return Price(reply.items, subtotal, 0)


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


def _learn_discount(saga: Saga, reply: CouponHeld) -> Learned:
    price = priced(saga)
    if reply.currency != saga.order.currency:
        return OutcomeReason.CURRENCY_MISMATCH
    if reply.discount > price.subtotal:
        return Wrong(f"a discount of {reply.discount} on {price.subtotal}")
    return Price(price.items, price.subtotal, reply.discount)


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


def _learn_charge(saga: Saga, reply: PaymentCharged) -> Learned:
    price, charged = priced(saga), sum([part.amount for part in reply.parts])
    if reply.currency != saga.order.currency or charged != price.total:
        return Wrong(f"{charged} {reply.currency} were charged, not {price.total}")
    return price


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
         do=_reserve, done=StockReserved, refused=StockRefused, learn=_learn_prices,
         undo=_release, undone=StockReleased),
    Step("hold", _COUPON, SagaState.HOLDING, skipped=_no_coupon,
         do=_hold, done=CouponHeld, refused=CouponRefused, learn=_learn_discount,
         undo=_restore, undone=CouponRestored),
    Step("charge", _PAYMENT, SagaState.CHARGING, skipped=_nothing_to_pay,
         do=_charge, done=PaymentCharged, refused=PaymentRefused, learn=_learn_charge,
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


class UnfitSagaError(Exception):
    """The saga's record lacks what its state needs. A fault of the program or of the row."""


def priced(saga: Saga) -> Price:
    """The price, known from the reservation on. Raises `UnfitSagaError` before."""
    if saga.price is None:
        raise UnfitSagaError(f"order {saga.order.order_id} has no price in {saga.state}")
    return saga.price


def coupon_of(saga: Saga) -> str:
    """The campaign. Raises `UnfitSagaError` where the order has none."""
    if saga.order.coupon_id is None:
        raise UnfitSagaError(f"order {saga.order.order_id} has no coupon in {saga.state}")
    return saga.order.coupon_id


def owed(saga: Saga) -> Owed:
    """What is open at the participants: what may be done and isn't undone, or isn't yet completed.

    A step in doubt counts as done. What an operator settled is owed no more.
    """
    confirmed = saga.state in (SagaState.COMPLETING, SagaState.CONFIRMED)
    held = {
        place
        for place, status in enumerate(saga.steps)
        if status is StepStatus.DONE and place < PIVOT and not confirmed
    }
    return _open_at(saga, held | _unanswered(saga))


def in_doubt(saga: Saga) -> Owed:
    """The part of `owed` of which nobody knows whether it happened: its `do` or `undo` is out."""
    return _open_at(saga, _unanswered(saga))


def _unanswered(saga: Saga) -> set[int]:
    out = UNDO_OWED | {StepStatus.SENT}
    return {place for place, status in enumerate(saga.steps) if status in out}


def _open_at(saga: Saga, places: set[int]) -> Owed:
    order = saga.order
    return Owed(
        units=order.lines if {RESERVE, COMMIT} & places else (),
        money=priced(saga).total if CHARGE in places else 0,
        currency=order.currency,
        coupon_id=order.coupon_id if {HOLD, USE} & places else None,
        steps=tuple(STEPS[place].name for place in sorted(places)),
    )
