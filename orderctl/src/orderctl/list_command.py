"""`orderctl list`: which orders there are, and which of them need a person."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orderctl.asking import ENDED, State, Url, asked, open_api, seconds_of
from orderctl.options import AsJson
from orderctl.running import USAGE, fail, note
from orderctl.terminal import cell, console, open_table, short_time, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from orderctl.admin_api import AdminApi, Document

LOOKS_AT_MOST: Final = 50
"""So often the orchestrator is asked to look further: a million orders, some seconds."""
COUNTS_SHOWN: Final = 20


def list_orders(
    url: Url,
    stuck: Annotated[
        bool,
        typer.Option("--stuck", help="Those that wait for an operator: as without any option."),
    ] = False,
    under_way: Annotated[
        bool, typer.Option("--under-way", help="Those that have not ended.")
    ] = False,
    states: Annotated[
        list[State] | None,
        typer.Option("--state", case_sensitive=False, help="In this state; may be said again."),
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Accepted longer ago: 90s, 5m, 2h, 1d.")
    ] = "",
    reason: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="A part of why it is stuck or, where it is not, of why it ended."
        ),
    ] = "",
    user: Annotated[str, typer.Option(metavar="USER", help="Of this user.")] = "",
    newest: Annotated[
        bool, typer.Option("--newest", help="The newest first: the default.")
    ] = False,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="So many at once.")] = 50,
    cursor: Annotated[
        str, typer.Option(metavar="CURSOR", help="Go on where the list before ended.")
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Each stuck order, not one line for each reason.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List orders; without a filter those that wait for an operator, by why they do.

    What is stuck or under way is found at once. Orders that have ended are looked through by age,
    a million at most; the list then says how far it came, and --cursor goes on from there.

    Example: orderctl list --state REJECTED --reason out_of_stock --limit 10
    """
    if stuck and under_way:
        fail("--stuck and --under-way exclude each other", USAGE)
    if newest and oldest:
        fail("--newest and --oldest exclude each other", USAGE)
    filters = _filters(states, older_than, reason, user)
    if not (under_way or newest or oldest or filters):
        stuck = True
    api = open_api(url)
    if stuck and not (every or cursor):
        _show_groups(asked(lambda: api.stuck_groups(**filters)), as_json=as_json)
        return
    scope = "all"
    if stuck:
        scope = "stuck"
    elif under_way or (states and not ENDED & set(states)):
        scope = "under_way"
    # Who waited longest comes first among the stuck, as it always did.
    backwards = newest or not (oldest or stuck)
    asking = {"scope": scope, "newest_first": str(backwards).lower()} | filters
    _show(asked(lambda: _pages(api, asking, cursor, limit)), scope, as_json=as_json)


def filters_of(reason: str) -> dict[str, str]:
    """What selects stuck orders by why they are."""
    return {"reason": reason} if reason else {}


def _filters(
    states: Sequence[State] | None, older_than: str, reason: str, user: str
) -> dict[str, str]:
    found = filters_of(reason)
    if states:
        found["states"] = ",".join(states)
    if older_than:
        found["older_than_s"] = str(seconds_of(older_than))
    if user:
        found["user"] = user
    return found


def _pages(api: AdminApi, asking: dict[str, str], cursor: str, limit: int) -> Document:
    """Looks further until enough are found, or it was looked far enough."""
    orders: list[Document] = []
    for _ in range(LOOKS_AT_MOST):
        rest = {"limit": str(limit - len(orders))} | ({"cursor": cursor} if cursor else {})
        page = api.search(**(asking | rest))
        orders += page["orders"]
        cursor = page["next"] or ""
        if not cursor or len(orders) >= limit:
            break
    return page | {"orders": orders}


def _show(page: Document, scope: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    orders, out = page["orders"], console()
    if orders:
        out.print(_table(orders, scope))
        counts = page.get("counts")
        whole = sum(count["orders"] for count in counts or ())
        print_counts(counts if counts is not None else _counted(orders))
        listed = f"{len(orders):,} of {whole:,}" if whole > len(orders) else f"{len(orders):,}"
        typer.echo(f"{listed} order{'s' if max(whole, len(orders)) != 1 else ''}")
    else:
        typer.echo("no order is stuck" if scope == "stuck" else "no such order is found")
    if page["next"]:
        looked_to = page.get("lookedTo")
        how_far = f"looked through to {short_time(looked_to)}; " if looked_to else ""
        note(f"{how_far}--cursor {page['next']} goes on")


def _show_groups(found: Document, *, as_json: bool) -> None:
    groups = found["groups"]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not groups:
        typer.echo("no order is stuck")
    else:
        print_groups(groups)
        whole = sum(group["orders"] for group in groups)
        more = " and more" if found["more"] else ""
        typer.echo(f"{whole:,} order{'s' if whole != 1 else ''} stuck{more}")
        example = visible(groups[0]["example"])
        typer.echo(f"orderctl show {example} tells what to do; --all lists each")


def print_groups(groups: Iterable[Document]) -> None:
    """Stuck orders by why they are."""
    table = open_table()
    table.add_column("orders", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why, and what is out", overflow="fold")
    table.add_column("longest since (UTC)", no_wrap=True)
    table.add_column("such as", overflow="fold")
    for group in groups:
        why = f"{group['why']}: {group['steps']}" if group.get("steps") else group["why"]
        values = (group["state"], why, short_time(group["since"]), group["example"])
        table.add_row(cell(f"{group['orders']:,}"), *(cell(value or "") for value in values))
    console().print(table)


def print_counts(counts: Sequence[Document]) -> None:
    """Orders by state and why, the most first."""
    table = open_table(header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for count in counts[:COUNTS_SHOWN]:
        table.add_row(cell(f"{count['orders']:,}"), cell(count["state"]), cell(count["why"] or ""))
    out = console()
    out.print()
    out.print(table)
    if len(counts) > COUNTS_SHOWN:
        typer.echo(f"and {len(counts) - COUNTS_SHOWN} more reasons; --json has them")


def _table(orders: Iterable[Document], scope: str) -> Table:
    since, heading = ("since", "stuck") if scope == "stuck" else ("acceptedAt", "accepted")
    table = open_table()
    table.add_column("order", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column(f"{heading} (UTC)", no_wrap=True)
    table.add_column("why", overflow="fold")
    for order in orders:
        stuck = order.get("why") and f"stuck: {order['why']}"
        why = order.get("why") if scope == "stuck" else stuck or order.get("reason")
        values: tuple[Any, ...] = (
            order.get("orderId"), order.get("state"), short_time(order.get(since)), why,
        )  # fmt: skip
        table.add_row(*(cell(value or "") for value in values))
    return table


def _counted(orders: Iterable[Document]) -> list[Document]:
    found = Counter((order["state"], order.get("why") or order.get("reason")) for order in orders)
    return [
        {"state": state, "why": why, "orders": count} for (state, why), count in found.most_common()
    ]
