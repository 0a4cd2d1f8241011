"""Payments as operators read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.contracts.base import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import asyncpg


def payment_documents(
    rows: Iterable[asyncpg.Record], calls: Iterable[asyncpg.Record]
) -> list[dict[str, Any]]:
    """Payments with the calls that are theirs."""
    by_order: dict[str, list[dict[str, Any]]] = {}
    for call in calls:
        by_order.setdefault(call["order_id"], []).append(call_document(call))
    return [_payment(row) | {"calls": by_order.get(row["order_id"], [])} for row in rows]


def _payment(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "orderId": row["order_id"],
        "state": row["state"],
        "userId": row["user_id"],
        "amount": row["amount"],
        "currency": row["currency"],
        "method": row["method"],
        "points": row["points"],
        "captured": row["captured"],
        "refunded": row["refunded"],
        "refusal": row["refusal"],
        "isLate": row["is_late"],
        "createdAt": _time(row["created_at"]),
    }


def call_document(row: asyncpg.Record) -> dict[str, Any]:
    """A call to the gateway, and who closed it by hand."""
    return {
        "key": row["key"],
        "kind": row["kind"],
        "state": row["state"],
        "amount": row["amount"],
        "currency": row["currency"],
        "reference": row["reference"],
        "quarantine": row["quarantine"],
        "sends": row["sends"],
        "attempt": row["attempt"],
        "owner": row["owner"],
        "firstSentAt": _time(row["first_sent_at"]),
        "expiresAt": _time(row["expires_at"]),
        "nextAt": _time(row["next_at"]),
        "createdAt": _time(row["created_at"]),
        "closed": _closed(row),
    }


def entry_document(row: asyncpg.Record) -> dict[str, Any]:
    """What was moved in one account."""
    return {
        "transaction": row["transaction_id"],
        "account": row["account"],
        "amount": row["amount"],
        "currency": row["currency"],
        "at": _time(row["at"]),
    }


def _closed(row: asyncpg.Record) -> dict[str, Any] | None:
    if row["closed_at"] is None:
        return None
    return {"by": row["closed_by"], "note": row["closed_note"], "at": _time(row["closed_at"])}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
