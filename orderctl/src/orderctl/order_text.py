"""What the orchestrator's admin port tells about orders, as tables for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rich.table import Table

from orderctl.terminal import cell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderctl.admin_api import Document

_TIME: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<clock>[0-9:]{8})(?P<ms>\.[0-9]{3})?Z\Z"
)


def facts_table(order: Document) -> Table:
    """How an order stands, a fact a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(order, first_day(order)):
        if value:
            table.add_row(cell(name), cell(value))
    return table


def history_table(order: Document) -> Table:
    """One change a line; a line with the date before the first change of another day."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("v", "state", "cause", "at"):
        table.add_column(name, no_wrap=True, overflow="fold")
    table.add_column("note", overflow="fold")
    day = first_day(order)
    for entry in order["history"]:
        found = _TIME.match(str(entry.get("at")))
        if found and found["date"] != day:
            day = found["date"]
            table.add_row("", "", "", day, "")
        values = (entry.get("version"), entry.get("state"), entry.get("cause"))
        at, note = _time(entry.get("at"), day), entry.get("note")
        table.add_row(*(cell(value or "") for value in (*values, at, note)))
    return table


def list_table(orders: Iterable[Document]) -> Table:
    """The orders that wait for an operator."""
    table = Table()
    table.add_column("order", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("stuck since (UTC)", no_wrap=True)
    table.add_column("why", overflow="fold")
    for order in orders:
        found = _TIME.match(str(order.get("since")))
        since = f"{found['date']} {found['clock']}" if found else order.get("since")
        values = (order.get("orderId"), order.get("state"), since, order.get("why"))
        table.add_row(*(cell(value or "") for value in values))
    return table


def first_day(order: Document) -> str:
    """The date on which the order's history begins, or ""."""
    moments = [order.get("acceptedAt"), *(entry.get("at") for entry in order.get("history") or ())]
    days = (_TIME.match(str(moment)) for moment in moments)
    return next((found["date"] for found in days if found), "")


def _time(moment: str | None, day: str) -> str:
    """The time of day, with the date where that is another than `day`."""
    found = _TIME.match(moment or "")
    if not found:
        return moment or ""
    clock = found["clock"] + (found["ms"] or "")
    return clock if found["date"] == day else f"{found['date']} {clock}"


def _facts(order: Document, day: str) -> list[tuple[str, str]]:
    state, status = order["state"], order.get("status")
    steps = ", ".join(f"{name} {status}" for name, status in order.get("steps", {}).items())
    stuck = order.get("stuck") or {}
    ending = " ".join(filter(None, (order.get("reason"), order.get("note"))))
    return [
        ("order", order["orderId"]),
        ("date", day and f"{day}, times in UTC"),
        ("status", f"{status} ({state})" if status and status != state else state),
        ("why", ending),
        ("details", ", ".join(map(_detail, order.get("details") or ()))),
        ("unreadable", order.get("unreadable", "")),
        *_ordered(order.get("ordered") or {}),
        ("steps", steps),
        ("stuck", f"since {_time(stuck['since'], day)}: {stuck['why']}" if stuck else ""),
        ("owed", _owed(order.get("owed") or {})),
        *(
            (name, _time(order.get(field), day))
            for name, field in (
                ("accepted", "acceptedAt"),
                ("pay by", "payBy"),
                ("deadline", "deadlineAt"),
                ("next look", "timerAt"),
            )
        ),
        ("trace", order.get("traceparent") or ""),
    ]


def _detail(detail: Document) -> str:
    if "couponReason" in detail:
        return f"coupon: {detail['couponReason']}"
    return (
        f"{detail.get('productId')}: {detail.get('requested')} requested,"
        f" {detail.get('available')} available"
    )


def _ordered(ordered: Document) -> list[tuple[str, str]]:
    if not ordered:
        return []
    payment, total = ordered.get("payment") or {}, ordered.get("total")
    points = payment.get("points")
    paid_with = f"{payment.get('method')}, {ordered.get('pay')}"
    if points:
        paid_with += f", {points:,} points"
    price = ""
    if total is not None:
        price = f"{total:,} {ordered.get('currency')}"
    if ordered.get("discount"):
        price += f" after {ordered['discount']:,} discount"
    expected = ordered.get("expectedTotal")
    return [
        ("user", ordered.get("userId") or ""),
        ("items", ", ".join(map(_line, ordered.get("items") or ()))),
        ("coupon", ordered.get("couponId") or ""),
        ("payment", paid_with),
        ("total", price),
        ("expected", "" if expected is None else f"{expected:,} {ordered.get('currency')}"),
        ("reference", ordered.get("reference") or ""),
    ]


def _line(line: Document) -> str:
    price = line.get("unitPrice")
    return f"{line['quantity']} of {line['productId']}" + (
        "" if price is None else f" at {price:,}"
    )


def _owed(owed: Document) -> str:
    if not owed.get("steps"):
        return ""
    parts = [_line(line) for line in owed["units"]]
    if owed["money"]:
        parts.append(f"{owed['money']:,} {owed['currency']}")
    if owed["couponId"]:
        parts.append(f"coupon {owed['couponId']}")
    return f"{', '.join(parts)} (steps {', '.join(owed['steps'])})"
