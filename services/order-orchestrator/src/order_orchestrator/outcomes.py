"""What the world is told of an order, and which refusal becomes which reason."""

from datetime import datetime
from types import MappingProxyType
from typing import Final

from order_orchestrator.domain import Ending, Saga, SagaState, Told
from order_orchestrator.saga import Reply, UnfitSagaError, priced
from shared.contracts.base import Message
from shared.contracts.coupon import CouponRefusal, CouponRefused
from shared.contracts.order_parts import CouponDetail, OutcomeReason
from shared.contracts.orders import (
    OrderAccepted,
    OrderAwaitingPayment,
    OrderCancelled,
    OrderConfirmed,
    OrderRejected,
)
from shared.contracts.payment import PaymentRefusal, PaymentRefused
from shared.contracts.stock import StockRefusal, StockRefused

_R = OutcomeReason
# A `do` that its own undo preceded was given up: those refusals reach no saga that goes forward.
STOCK_REASONS: Final = MappingProxyType(
    {
        StockRefusal.OUT_OF_STOCK: _R.OUT_OF_STOCK,
        StockRefusal.OVER_ORDER_LIMIT: _R.OUT_OF_STOCK,
        StockRefusal.UNKNOWN_PRODUCT: _R.UNKNOWN_PRODUCT,
        StockRefusal.TEMPORARILY_UNAVAILABLE: _R.TEMPORARILY_UNAVAILABLE,
        StockRefusal.CURRENCY_MISMATCH: _R.CURRENCY_MISMATCH,
        StockRefusal.ALREADY_RELEASED: _R.SAGA_TIMEOUT,
        StockRefusal.NOT_RESERVED: _R.SAGA_TIMEOUT,
    }
)
PAYMENT_REASONS: Final = MappingProxyType(
    {
        PaymentRefusal.INSUFFICIENT_BALANCE: _R.INSUFFICIENT_BALANCE,
        PaymentRefusal.PAYMENT_DECLINED: _R.PAYMENT_DECLINED,
        PaymentRefusal.METHOD_UNAVAILABLE: _R.PAYMENT_DECLINED,
        PaymentRefusal.CURRENCY_MISMATCH: _R.CURRENCY_MISMATCH,
        PaymentRefusal.TEMPORARILY_UNAVAILABLE: _R.TEMPORARILY_UNAVAILABLE,
        PaymentRefusal.ALREADY_REFUNDED: _R.SAGA_TIMEOUT,
    }
)
COUPON_REASONS: Final = MappingProxyType(
    dict.fromkeys(CouponRefusal, _R.COUPON_REFUSED)
    | {
        CouponRefusal.CURRENCY_MISMATCH: _R.CURRENCY_MISMATCH,
        CouponRefusal.TEMPORARILY_UNAVAILABLE: _R.TEMPORARILY_UNAVAILABLE,
        CouponRefusal.ALREADY_RESTORED: _R.SAGA_TIMEOUT,
    }
)


def refusal_ending(reply: Reply) -> Ending:
    """How an order ends whose step was refused by this reply."""
    rejected = SagaState.REJECTED
    match reply:
        case StockRefused():
            return Ending(rejected, STOCK_REASONS[reply.reason], reply.details)
        case CouponRefused():
            reason = COUPON_REASONS[reply.reason]
            details = (CouponDetail(coupon_reason=reply.reason),)
            return Ending(rejected, reason, details if reason is _R.COUPON_REFUSED else ())
        case PaymentRefused():
            return Ending(rejected, PAYMENT_REASONS[reply.reason])
        case _:
            raise UnfitSagaError(f"{type(reply).__name__} refuses nothing")


def accepted_event(saga: Saga, at: datetime) -> Message:
    order = saga.order
    return OrderAccepted(
        order_id=order.order_id,
        user_id=order.user_id,
        version=saga.version,
        at=at,
        reference=order.reference,
    )


def awaiting_payment_event(saga: Saga, at: datetime) -> Message:
    order, price = saga.order, priced(saga)
    if saga.pay_by is None:
        raise UnfitSagaError(f"order {order.order_id} awaits its payment without an end")
    return OrderAwaitingPayment(
        order_id=order.order_id,
        user_id=order.user_id,
        version=saga.version,
        at=at,
        reference=order.reference,
        items=price.items,
        total=price.total,
        discount=price.discount,
        currency=order.currency,
        pay_by=saga.pay_by,
    )


def outcome_event(saga: Saga) -> Message | None:
    """The order's one outcome, equal each time it is asked for. None before there is one."""
    if saga.told is None:
        return None
    if saga.ending is None:
        return _confirmed(saga, saga.told)
    match saga.ending.state:
        case SagaState.REJECTED:
            return _rejected(saga, saga.told, saga.ending)
        case SagaState.CANCELLED:
            return _cancelled(saga, saga.told, saga.ending)
        case _:
            raise UnfitSagaError(f"order {saga.order.order_id} ended as {saga.ending.state}")


def _confirmed(saga: Saga, told: Told) -> Message:
    order, price = saga.order, priced(saga)
    return OrderConfirmed(
        order_id=order.order_id,
        user_id=order.user_id,
        version=told.version,
        at=told.at,
        reference=order.reference,
        items=price.items,
        total=price.total,
        discount=price.discount,
        currency=order.currency,
    )


def _rejected(saga: Saga, told: Told, ending: Ending) -> Message:
    order = saga.order
    return OrderRejected(
        order_id=order.order_id,
        user_id=order.user_id or None,
        version=told.version,
        at=told.at,
        reference=order.reference,
        reason=ending.reason,
        details=ending.details,
        note=ending.note,
    )


def _cancelled(saga: Saga, told: Told, ending: Ending) -> Message:
    order = saga.order
    return OrderCancelled(
        order_id=order.order_id,
        user_id=order.user_id,
        version=told.version,
        at=told.at,
        reference=order.reference,
        reason=ending.reason,
        details=ending.details,
        note=ending.note,
    )
