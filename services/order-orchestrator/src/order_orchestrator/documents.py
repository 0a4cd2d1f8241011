"""A saga as operators read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from order_orchestrator.chunk import COMMAND_TOPICS
from order_orchestrator.domain import public_status
from order_orchestrator.moves import outstanding
from order_orchestrator.requests import settleable
from order_orchestrator.saga import STEPS, in_doubt, owed
from order_orchestrator.telling import Line, messages_written
from order_orchestrator.timing import held_until
from shared.contracts.base import format_time, message_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

    from order_orchestrator.domain import Limits, Owed, Saga


def saga_document(saga: Saga, limits: Limits) -> dict[str, Any]:
    """A saga as operators read it, judged by `limits`: `deadlineAt` has the settlement window in it
    where the charge went to the gateway."""
    details = saga.ending.details if saga.ending else ()
    return {
        "orderId": saga.order.order_id,
        "state": saga.state,
        "status": public_status(saga),
        "version": saga.version,
        "definitionVersion": saga.definition_version,
        "steps": {step.name: status for step, status in zip(STEPS, saga.steps, strict=True)},
        "stuck": saga.stuck and {"since": time_text(saga.stuck.since), "why": saga.stuck.why},
        "owed": _open_ends(owed(saga)) | {"inDoubt": _open_ends(in_doubt(saga))},
        "waitsFor": [
            {
                "commandId": message_id(command),
                "type": command.type,
                "topic": COMMAND_TOPICS[command.type],
            }
            for command in outstanding(saga)
        ],
        "sends": saga.sends,
        "lastSentAt": time_text(saga.last_sent_at),
        "settleAs": list(settleable(saga)),
        "ordered": _ordered(saga),
        "reason": saga.ending and saga.ending.reason,
        "note": saga.ending and saga.ending.note,
        "details": [detail.model_dump(mode="json") for detail in details],
        "acceptedAt": time_text(saga.order.accepted_at),
        "deadlineAt": time_text(held_until(saga, limits)),
        "payBy": time_text(saga.pay_by),
        "timerAt": time_text(saga.timer_at),
        "traceparent": saga.order.traceparent,
    }


def _open_ends(found: Owed) -> dict[str, Any]:
    return {
        "units": [line.model_dump(by_alias=True) for line in found.units],
        "money": found.money,
        "currency": found.currency,
        "couponId": found.coupon_id,
        "steps": list(found.steps),
    }


def _ordered(saga: Saga) -> dict[str, Any]:
    """What was ordered; prices from the reservation on, the payment as `PayOrder` changed it."""
    order, price = saga.order, saga.price
    return {
        "userId": order.user_id or None,
        "items": [line.model_dump() for line in (price.items if price else order.lines)],
        "couponId": order.coupon_id,
        "payment": saga.payment.model_dump(mode="json"),
        "pay": order.pay,
        "total": price and price.total,
        "discount": price and price.discount,
        "currency": order.currency,
        "expectedTotal": order.expected_total,
        "reference": order.reference,
    }


def history_document(saga: Saga | None, history: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
    """The lines of a saga's history, each with the commands and events that it wrote, or None
    where that can't be told for certain. `saga` is None where its row can't be read."""
    lines = [Line(entry["state"], entry["cause"], entry["note"]) for entry in history]
    told = messages_written(saga, lines) if saga is not None else None
    return [
        {
            **dict(entry),
            "at": time_text(entry["at"]),
            "commands": list(told[place].commands) if told else None,
            "events": list(told[place].events) if told else None,
        }
        for place, entry in enumerate(history)
    ]


def time_text(moment: datetime | None) -> str | None:
    """As in messages: RFC 3339 in UTC with milliseconds."""
    return None if moment is None else format_time(moment)
