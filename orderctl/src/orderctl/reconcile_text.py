"""What came of comparing the books, as people and programs read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import typer

from orderctl.terminal import cell, console, duration, open_table, visible
from shared.reconciliation.describing import RUNBOOK, TO_DO, here, there, title
from shared.reconciliation.lines import Sums
from shared.reconciliation.rules import DIFFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from shared.reconciliation import Finding, Reconciliation

SHOWN: Final = 20
_NOTHING: Final = Sums(0, 0)


def print_reconciliation(found: Reconciliation, order: str, *, as_json: bool) -> None:
    """The totals, what is open, and each difference with what to do; `order` is the one that was
    asked for, or ""."""
    if as_json:
        typer.echo(json.dumps(document(found), indent=2))
        return
    if order and not (found.our_lines or found.their_lines):
        typer.echo(f"neither book has a line of {order}")
        return
    if found.ours or found.theirs:
        console().print(_totals(found))
    typer.echo(f"{found.our_lines:,} lines here, {found.their_lines:,} lines at the gateway")
    if found.oldest_open_s is not None:
        oldest = duration(found.oldest_open_s)
        typer.echo(f"{found.open:,} open, the oldest for {oldest}: `orderctl payment list --open`")
    if found.by_hand:
        typer.echo(f"{found.by_hand:,} closed by hand, and no money of them is at the gateway")
        console().print(_table("by hand", found.listed_by_hand[:SHOWN]))
    if found.is_equal:
        typer.echo("the books agree")
        return
    typer.echo(f"\n{_counted(found)}\n")
    console().print(_table("difference", found.differences[:SHOWN]))
    left = found.counts.total() - SHOWN
    if left > 0:
        typer.echo(f"and {left:,} more; --json lists the first of each kind")
    typer.echo("")
    for kind in DIFFERENCES:
        if found.counts[kind]:
            typer.echo(visible(f"{title(kind)}: {TO_DO[kind]}"))
    typer.echo(RUNBOOK)


def document(found: Reconciliation) -> dict[str, Any]:
    """The same for programs: amounts in minor units, ages in seconds."""
    return {
        "equal": found.is_equal,
        "lines": {"ours": found.our_lines, "theirs": found.their_lines},
        "totals": {
            currency: {
                "ours": _sums(found.ours.get(currency, _NOTHING)),
                "theirs": _sums(found.theirs.get(currency, _NOTHING)),
            }
            for currency in sorted(found.ours.keys() | found.theirs.keys())
        },
        "open": {"count": found.open, "oldestAgeSeconds": found.oldest_open_s},
        "byHand": {
            "count": found.by_hand,
            "listed": [_lines(one) for one in found.listed_by_hand],
        },
        "differences": {
            "count": found.counts.total(),
            "byKind": {kind: found.counts[kind] for kind in DIFFERENCES if found.counts[kind]},
            "listed": [_finding(one) for one in found.differences],
        },
        "runbook": None if found.is_equal else RUNBOOK,
    }


def _totals(found: Reconciliation) -> Table:
    table = open_table()
    table.add_column("")
    for name in ("captured", "refunded", "net"):
        table.add_column(name, justify="right", no_wrap=True)
    for currency in sorted(found.ours.keys() | found.theirs.keys()):
        for side, sums in (("here", found.ours), ("at the gateway", found.theirs)):
            moved = sums.get(currency, _NOTHING)
            amounts = (f"{one:,} {currency}" for one in (*moved, moved.net))
            table.add_row(*map(cell, (side, *amounts)))
    return table


def _table(name: str, findings: Iterable[Finding]) -> Table:
    table = open_table()
    table.add_column(name, no_wrap=True)
    table.add_column("order", overflow="fold")
    table.add_column("here", overflow="fold")
    table.add_column("at the gateway", overflow="fold")
    for one in findings:
        order = one.order_id or f"key {one.key}"
        table.add_row(*map(cell, (title(one.verdict), order, here(one), there(one))))
    return table


def _counted(found: Reconciliation) -> str:
    kinds = [f"{found.counts[kind]:,} {title(kind)}" for kind in DIFFERENCES if found.counts[kind]]
    total = found.counts.total()
    return f"{total:,} difference{'s' if total > 1 else ''}: {', '.join(kinds)}"


def _finding(finding: Finding) -> dict[str, Any]:
    told = {"difference": finding.verdict, "toDo": TO_DO[finding.verdict]}
    return told | _lines(finding)


def _lines(finding: Finding) -> dict[str, Any]:
    ours = finding.ours
    return {
        "orderId": finding.order_id,
        "key": finding.key,
        "ours": None
        if ours is None
        else {
            "kind": ours.kind,
            "state": ours.state,
            "amount": ours.amount,
            "currency": ours.currency,
            "reference": ours.reference,
            "quarantine": ours.quarantine,
            "closedBy": ours.closed_by,
        },
        "theirs": [
            {
                "kind": line.kind,
                "id": line.id,
                "key": line.key,
                "status": line.status,
                "amount": line.amount,
                "currency": line.currency,
                "charge": line.charge,
            }
            for line in finding.theirs
        ],
    }


def _sums(moved: Sums) -> dict[str, int]:
    return {"captured": moved.captured, "refunded": moved.refunded, "net": moved.net}
