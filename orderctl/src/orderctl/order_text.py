"""How one order stands, as people read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from orderctl.advice import waits_for, what_to_do
from orderctl.terminal import cell, console, date_of, facts_table, time_of_day
from orderctl.timeline import timeline

if TYPE_CHECKING:
    from orderctl.admin_api import Document


def print_order(order: Document, *, as_json: bool) -> None:
    """All there is to say of an order, or what the orchestrator answered."""
    if as_json:
        typer.echo(json.dumps(order, indent=2))
        return
    out = console()
    out.print(facts_table(_facts(order, first_day(order))))
    if order.get("history"):
        out.print()
        for line in timeline(order, blocks=out.encoding.startswith("utf")):
            out.print(line)
    advice = what_to_do(order)
    if advice:
        out.print()
        out.print(cell("What to do:"))
        for text in advice:
            out.print(cell(text))


def first_day(order: Document) -> str:
    """The date on which the order's history begins, or ""."""
    moments = [order.get("acceptedAt"), *(entry.get("at") for entry in order.get("history") or ())]
    return next(filter(None, map(date_of, moments)), "")


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
        ("stuck", f"since {time_of_day(stuck['since'], day)}: {stuck['why']}" if stuck else ""),
        ("waits for", waits_for(order)),
        ("owed", _owed(order.get("owed") or {})),
        *(
            (name, time_of_day(order.get(field), day))
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
    """What is known to be held, and apart from it what may or may not have happened."""
    doubted = owed.get("inDoubt") or {}
    unsure = set(doubted.get("steps") or ())
    sure = [step for step in owed.get("steps") or () if step not in unsure]
    # Units, money and the coupon belong to a step each: what is in doubt is not held as well.
    held = {
        name: value for name, value in owed.items() if name == "currency" or not doubted.get(name)
    }
    parts = []
    if sure:
        known = _open_ends(held | {"steps": sure})
        parts.append(f"held: {known}" if "inDoubt" in owed else known)
    if unsure:
        what = "sent and unanswered, may or may not have happened"
        parts.append(f"in doubt ({what}): {_open_ends(doubted)}")
    return "; ".join(parts)


def _open_ends(owed: Document) -> str:
    parts = [_line(line) for line in owed.get("units") or ()]
    if owed.get("money"):
        parts.append(f"{owed['money']:,} {owed['currency']}")
    if owed.get("couponId"):
        parts.append(f"coupon {owed['couponId']}")
    return f"{', '.join(parts)} (steps {', '.join(owed['steps'])})"
