"""A saga as a row: what is asked for by SQL in columns, the rest in two JSON documents.

`placed` is written once with the row, `progress` with every change. Both carry the version of
their shape in `v`. Readers take every shape that was ever written: a key that a later version
added has a default here, a key that is unknown is left alone. What still can't be read raises
`UnreadableSagaError`, and that saga is parked while the others go on.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from order_orchestrator.domain import (
    AFTER_RESERVATION,
    Cancel,
    CancelledBy,
    Ending,
    Order,
    Price,
    Saga,
    SagaState,
    StepStatus,
    Stuck,
    Told,
)
from order_orchestrator.saga import CHARGE, COMMIT, DEFINITION_VERSION, HOLD, STEPS, USE
from shared.contracts.coupon import CouponRefusal
from shared.contracts.order_parts import (
    PAY_FROM_WALLET,
    CouponDetail,
    Line,
    LineDetail,
    OutcomeDetail,
    OutcomeReason,
    PaymentChoice,
    PaymentMethod,
    PayTiming,
    PricedLine,
)

RECORD_VERSION: Final = 1
Record = dict[str, Any]

_NAMES: Final = tuple(step.name for step in STEPS)
_KNOWN: Final = frozenset(_NAMES)
_UNTOUCHED: Final = frozenset({StepStatus.NOT_STARTED, StepStatus.SKIPPED})
_STATUS: Final = {status.value: status for status in StepStatus}
_STATE: Final = {state.value: state for state in SagaState}
_METHOD: Final = {method.value: method for method in PaymentMethod}


class UnreadableSagaError(Exception):
    """A row that this code can't read: damaged, or written by newer code."""

    def __init__(self, order_id: str, detail: str) -> None:
        super().__init__(f"saga of order {order_id}: {detail}")
        self.order_id = order_id
        self.detail = detail


def to_record(saga: Saga) -> Record:
    """All columns by name. JSON documents are plain dicts, times aware datetimes."""
    return placed_columns(saga) | progress_columns(saga)


def placed_columns(saga: Saga) -> Record:
    """The columns that never change."""
    order = saga.order
    placed: Record = {
        "v": RECORD_VERSION,
        "lines": [[line.product_id, line.quantity] for line in order.lines],
        "payment": _payment_to(order.payment),
        "pay": order.pay.value,
        "currency": order.currency,
    }
    if order.coupon_id is not None:
        placed["couponId"] = order.coupon_id
    if order.expected_total is not None:
        placed["expectedTotal"] = order.expected_total
    if order.reference is not None:
        placed["reference"] = order.reference
    return {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "fingerprint": order.fingerprint,
        "fingerprint_version": order.fingerprint_version,
        "traceparent": order.traceparent,
        "accepted_at": order.accepted_at,
        "placed": placed,
        "definition_version": saga.definition_version,
    }


def progress_columns(saga: Saga) -> Record:
    """The columns that a transition may change."""
    progress: Record = {"v": RECORD_VERSION, "steps": _steps_to(saga.steps)}
    if saga.payment is not saga.order.payment:
        progress["payment"] = _payment_to(saga.payment)
    if saga.price is not None:
        progress["prices"] = [item.unit_price for item in saga.price.items]
        progress["discount"] = saga.price.discount
    if saga.pay_command_id is not None:
        progress["payCommandId"] = saga.pay_command_id
    if saga.cancel is not None:
        progress["cancel"] = {"by": saga.cancel.by.value, "note": saga.cancel.note}
    if saga.ending is not None:
        progress["ending"] = _ending_to(saga.ending)
    if saga.sends:
        progress["sends"] = saga.sends
    for name, moment in (
        ("lastSentAt", saga.last_sent_at),
        ("deadlineAt", saga.deadline_at),
        ("payBy", saga.pay_by),
    ):
        if moment is not None:
            progress[name] = moment.isoformat()
    stuck, told = saga.stuck, saga.told
    return {
        "state": saga.state.value,
        "version": saga.version,
        "timer_at": saga.timer_at,
        "stuck_since": stuck.since if stuck else None,
        "stuck_why": stuck.why if stuck else None,
        "told_version": told.version if told else None,
        "told_at": told.at if told else None,
        "progress": progress,
    }


def from_record(record: Mapping[str, Any]) -> Saga:
    """The saga of a row, whichever version wrote it. Raises `UnreadableSagaError`."""
    order_id = str(record.get("order_id"))
    try:
        saga = _read(record)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UnreadableSagaError(order_id, f"{type(error).__name__}: {error}") from error
    fault = _fault(saga)
    if fault is not None:
        raise UnreadableSagaError(order_id, fault)
    return saga


def _read(record: Mapping[str, Any]) -> Saga:
    placed, progress = record["placed"], record["progress"]
    order = _order(record, placed)
    stuck_since, told_version = record.get("stuck_since"), record.get("told_version")
    prices, payment = progress.get("prices"), progress.get("payment")
    cancel, ending = progress.get("cancel"), progress.get("ending")
    return Saga(
        order=order,
        definition_version=record["definition_version"],
        state=_STATE[record["state"]],
        version=record["version"],
        steps=_steps(progress["steps"]),
        payment=order.payment if payment is None else _payment(payment),
        price=None if prices is None else _price(order, prices, progress.get("discount", 0)),
        pay_command_id=progress.get("payCommandId"),
        cancel=cancel and Cancel(CancelledBy(cancel["by"]), cancel.get("note")),
        ending=ending and _ending(ending),
        told=None if told_version is None else Told(told_version, record["told_at"]),
        stuck=None if stuck_since is None else Stuck(stuck_since, record["stuck_why"]),
        sends=progress.get("sends", 0),
        last_sent_at=_moment(progress.get("lastSentAt")),
        deadline_at=_moment(progress.get("deadlineAt")),
        pay_by=_moment(progress.get("payBy")),
        timer_at=record.get("timer_at"),
    )


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


def _fault(saga: Saga) -> str | None:
    """What the engine relies on, beside the types."""
    if not 1 <= saga.definition_version <= DEFINITION_VERSION:
        return f"definition version {saga.definition_version} is not known here"
    if saga.state in AFTER_RESERVATION and saga.price is None:
        return f"no price in {saga.state}"
    if saga.state is SagaState.COMPENSATING and saga.ending is None:
        return "compensated without a reason"
    if saga.order.coupon_id is None and _started(saga, (HOLD, USE)):
        return "a coupon step without a coupon"
    if saga.price is None and _started(saga, (HOLD, CHARGE, USE, COMMIT)):
        return "a step that needs the price, without one"
    return None


def _started(saga: Saga, places: Sequence[int]) -> bool:
    return any(saga.steps[place] not in _UNTOUCHED for place in places)


def _order(record: Mapping[str, Any], placed: Mapping[str, Any]) -> Order:
    return Order(
        order_id=record["order_id"],
        user_id=record["user_id"],
        lines=tuple(
            [Line(product_id=product_id, quantity=units) for product_id, units in placed["lines"]]
        ),
        coupon_id=placed.get("couponId"),
        payment=_payment(placed["payment"]),
        pay=PayTiming(placed["pay"]),
        expected_total=placed.get("expectedTotal"),
        reference=placed.get("reference"),
        currency=placed["currency"],
        fingerprint=record["fingerprint"],
        fingerprint_version=record["fingerprint_version"],
        traceparent=record.get("traceparent"),
        accepted_at=record["accepted_at"],
    )


@lru_cache(maxsize=4_096)
def _steps_to(steps: tuple[StepStatus, ...]) -> Mapping[str, str]:
    return {
        name: status.value
        for name, status in zip(_NAMES, steps, strict=True)
        if status is not StepStatus.NOT_STARTED
    }


def _steps(written: Mapping[str, str]) -> tuple[StepStatus, ...]:
    if not written.keys() <= _KNOWN:
        raise ValueError(f"unknown steps {sorted(written.keys() - _KNOWN)}")
    return tuple([_STATUS[written.get(name, "not_started")] for name in _NAMES])


def _price(order: Order, prices: Sequence[int], discount: int) -> Price:
    items = tuple(
        [
            PricedLine(product_id=line.product_id, quantity=line.quantity, unit_price=price)
            for line, price in zip(order.lines, prices, strict=True)
        ]
    )
    subtotal = sum([item.quantity * item.unit_price for item in items])
    if not 0 <= discount <= subtotal:
        raise ValueError(f"a discount of {discount} on {subtotal}")
    return Price(items, subtotal, discount)


def _payment_to(payment: PaymentChoice) -> Record:
    return {"method": payment.method.value, "points": payment.points}


def _payment(written: Mapping[str, Any]) -> PaymentChoice:
    method, points = _METHOD[written["method"]], written.get("points", 0)
    if method is PaymentMethod.WALLET and points == 0:
        return PAY_FROM_WALLET
    return PaymentChoice(method=method, points=points)


def _ending_to(ending: Ending) -> Record:
    return {
        "state": ending.state.value,
        "reason": ending.reason.value,
        "details": [detail.model_dump(mode="json") for detail in ending.details],
        "note": ending.note,
    }


def _ending(written: Mapping[str, Any]) -> Ending:
    return Ending(
        state=_STATE[written["state"]],
        reason=OutcomeReason(written["reason"]),
        details=tuple([_detail(detail) for detail in written.get("details", ())]),
        note=written.get("note"),
    )


def _detail(written: Mapping[str, Any]) -> OutcomeDetail:
    if "couponReason" in written:
        return CouponDetail(coupon_reason=CouponRefusal(written["couponReason"]))
    return LineDetail(
        product_id=written["productId"],
        requested=written["requested"],
        available=written["available"],
    )
