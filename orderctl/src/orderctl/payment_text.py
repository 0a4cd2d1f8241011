"""Payments, as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer

from orderctl.running import note
from orderctl.terminal import cell, console, facts_table, open_table, short_time, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from orderctl.admin_api import Document

FINAL: Final = ("SUCCEEDED", "DECLINED", "VOID")
RUNBOOK: Final = "docs/runbooks/gateway-differs.md"


def print_payments(page: Document, *, is_open: bool, as_json: bool) -> None:
    """A page of payments, or what payment answered."""
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    if page["payments"]:
        console().print(_listed(page["payments"]))
    else:
        typer.echo("no payment is open" if is_open else "no payment is found")
    if page["next"]:
        note(f"--after {page['next']} goes on")


def print_payment(payment: Document, *, as_json: bool) -> None:
    """All there is to say of a payment, or what payment answered."""
    if as_json:
        typer.echo(json.dumps(payment, indent=2))
        return
    out = console()
    out.print(facts_table(_facts(payment)))
    for call in payment["calls"]:
        out.print()
        out.print(facts_table(_call_facts(call)))
    if payment["entries"]:
        out.print()
        out.print(_entries(payment["entries"]))
    if advice := what_to_do(payment):
        out.print()
        out.print(cell(f"What to do: {advice}"))


def print_asked(answer: Document) -> None:
    """Of which calls the gateway is asked anew."""
    for call in answer["calls"]:
        told = f"the gateway is asked about the {call['kind']}, {call['state']}"
        typer.echo(visible(f"{answer['orderId']}: {told}"))


def print_closed(payment: Document) -> None:
    """How a payment is once it was closed."""
    calls = ", ".join(f"the {call['kind']} is {call['state']}" for call in payment["calls"])
    typer.echo(visible(f"{payment['orderId']}: {payment['state']}, {calls}"))


def what_to_do(payment: Document) -> str:
    """The next step of an operator, or "" where there is none."""
    states = {call["state"] for call in payment["calls"]}
    order = payment["orderId"]
    if "QUARANTINED" in states:
        return (
            f"find out what the gateway's book says (`orderctl payment reconcile --order {order}`);"
            " once all of it is given back there, `orderctl payment close"
            f" {order} --note WHAT-YOU-DID`; or once it is right there, `orderctl payment ask"
            f" {order}`; {RUNBOOK}"
        )
    if states & {"UNKNOWN", "INTENDED"}:
        return (
            "nothing, while the gateway is away: it is asked again by itself;"
            f" `orderctl payment ask {order}` does so now"
        )
    return ""


def _listed(payments: Iterable[Document]) -> Table:
    table = open_table()
    table.add_column("order", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("at the gateway", overflow="fold")
    table.add_column("since (UTC)", no_wrap=True)
    for one in payments:
        calls = [call for call in one["calls"] if call["state"] not in FINAL] or one["calls"]
        told = ", ".join(f"{call['kind']} {call['state']}" for call in calls)
        since = min((call["createdAt"] for call in calls), default=one["createdAt"])
        values = (one["orderId"], one["state"], _money(one["amount"], one["currency"]))
        table.add_row(*map(cell, (*values, one["method"] or "", told, short_time(since))))
    return table


def _facts(payment: Document) -> list[tuple[str, str]]:
    currency = payment["currency"]
    points = payment["points"]
    return [
        ("order", payment["orderId"]),
        ("state", payment["state"]),
        ("refusal", payment["refusal"] or ""),
        ("user", payment["userId"] or ""),
        ("amount", _money(payment["amount"], currency)),
        ("method", payment["method"] or ""),
        ("in points", f"{points:,}" if points else ""),
        ("captured", _money(payment["captured"] or None, currency)),
        ("late", "yes: its order was told before that nothing had moved" * payment["isLate"]),
        ("refunded", _money(payment["refunded"] or None, currency)),
        ("since", f"{short_time(payment['createdAt'])} UTC"),
    ]


def _call_facts(call: Document) -> list[tuple[str, str]]:
    times = f"{call['sends']:,} times" if call["sends"] != 1 else "once"
    first = f", first {short_time(call['firstSentAt'])}" if call["firstSentAt"] else ""
    due = short_time(call["nextAt"])
    return [
        (call["kind"], call["state"]),
        ("key", call["key"]),
        ("amount", _money(call["amount"], call["currency"])),
        ("at gateway", call["reference"] or ""),
        ("needs", f"a person: {call['quarantine']}" if call["quarantine"] else ""),
        ("closed", _closed(call)),
        ("intended", short_time(call["createdAt"])),
        ("sent", f"{times}{first}" if call["sends"] else "never"),
        ("asked by", f"{call['owner']}, until {due}" if call["owner"] else ""),
        ("asked next", "" if call["owner"] else due),
    ]


def _closed(call: Document) -> str:
    closed = call.get("closed")
    if closed is None:
        return ""
    return f"by {closed['by']}, {short_time(closed['at'])}: {closed['note']}"


def _entries(entries: Iterable[Document]) -> Table:
    table = open_table()
    table.add_column("at (UTC)", no_wrap=True)
    table.add_column("transaction", overflow="fold")
    table.add_column("account", overflow="fold")
    table.add_column("amount", justify="right", no_wrap=True)
    for entry in entries:
        amount = f"{entry['amount']:+,} {entry['currency']}"
        values = (short_time(entry["at"]), entry["transaction"], entry["account"], amount)
        table.add_row(*map(cell, values))
    return table


def _money(amount: int | None, currency: str | None) -> str:
    return "" if amount is None else f"{amount:,} {currency or ''}".strip()
