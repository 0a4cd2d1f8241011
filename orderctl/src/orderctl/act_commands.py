"""`orderctl cancel`, `retry` and `settle`: for one order, several, or all that are stuck alike."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orderctl.asking import Url, asked, checked_id, open_api
from orderctl.errors import AwayError, OperatorError
from orderctl.list_command import filters_of, print_groups
from orderctl.options import AsJson, Operator
from orderctl.order_text import print_order
from orderctl.running import USAGE, fail, note, operator_of
from orderctl.terminal import cell, console, open_table, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderctl.admin_api import AdminApi

AT_ONCE: Final = 8
"""Orders that are acted on at the same time; each is a transaction of its own."""
PAGE: Final = 1_000
REFUSALS_SHOWN: Final = 50
ROWS_SHOWN: Final = 20
TOLD_EVERY: Final = 1_000


def _checked_ids(given: list[str] | None) -> list[str]:
    return [checked_id(one) for one in given or ()]


OrderIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ORDER", help="Ids of orders.", callback=_checked_ids),
]
AllStuck = Annotated[
    bool, typer.Option("--all-stuck", help="All that wait for an operator, longest first.")
]
Reason = Annotated[
    str, typer.Option(metavar="TEXT", help="With --all-stuck: a part of why they are stuck.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="With --all-stuck: so many at most.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --all-stuck: do it, don't only tell.")]
Note = Annotated[str, typer.Option(help="Why; it stands in the order's history.")]


class Outcome(StrEnum):
    """What a settled order may end as."""

    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one order of several."""

    order_id: str
    done: bool
    state: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which orders: those that are named, or those that are stuck."""

    order_ids: list[str]
    all_stuck: bool
    reason: str
    limit: int
    yes: bool

    def check(self) -> None:
        """Ends the process where it is none, or not clear."""
        if bool(self.order_ids) is self.all_stuck:
            fail("name orders, or say --all-stuck for those that wait for an operator", USAGE)
        if not self.all_stuck and (self.reason or self.yes):
            fail("--reason and --yes go with --all-stuck", USAGE)


def cancel(
    url: Url,
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Cancel orders, as their users could: refused once an order is confirmed.

    Of several, each is tried; exit code 1 says that one was refused.

    Example: orderctl cancel readme-1 --note "the shop asked for it"
    """
    choice = Choice(orders or [], all_stuck, reason, limit, yes)
    _act("cancel", choice, url, as_json=as_json, operator=operator, note=note)


def retry(
    url: Url,
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Send the commands of stuck orders again.

    Of several, each is tried; exit code 1 says that one was refused. With --all-stuck it tells
    what it would do, and does it with --yes.

    Example: orderctl retry --all-stuck --reason unanswered --note "stock is back"
    """
    choice = Choice(orders or [], all_stuck, reason, limit, yes)
    _act("retry", choice, url, as_json=as_json, operator=operator, note=note)


def settle(
    url: Url,
    outcome: Annotated[Outcome, typer.Option(help="What the orders end as.")],
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """End stuck orders by your word; what they still owe is written off.

    Of several, each is tried; exit code 1 says that one was refused. With --all-stuck it tells
    what it would do, and does it with --yes.

    Example: orderctl settle --all-stuck --outcome REJECTED --note "units were counted by hand"
    """
    choice = Choice(orders or [], all_stuck, reason, limit, yes)
    _act(
        "settle", choice, url, as_json=as_json,
        operator=operator, note=note, outcome=outcome.value,
    )  # fmt: skip


def _act(
    action: str, choice: Choice, url: str, *, as_json: bool, operator: str, **body: str
) -> None:
    choice.check()
    api, body = open_api(url), {"operator": operator_of(operator)} | body
    if len(choice.order_ids) == 1:
        order_id = choice.order_ids[0]
        print_order(asked(lambda: api.act(action, order_id, **body)), as_json=as_json)
        return
    order_ids = list(dict.fromkeys(choice.order_ids)) or asked(lambda: _stuck_ids(api, choice))
    if choice.all_stuck and not order_ids:
        typer.echo(json.dumps(_document(action, [], [])) if as_json else "no such order is stuck")
        return
    if choice.all_stuck and not choice.yes:
        _preview(action, api, choice, order_ids, body["operator"], as_json=as_json)
        return
    results, left = _each(action, api, order_ids, body)
    if as_json:
        typer.echo(json.dumps(_document(action, results, left), indent=2))
    else:
        _print_results(action, results)
    if left:
        note(f"{len(left):,} orders were not tried: {results[-1].problem}")
    if left or not all(result.done for result in results):
        raise typer.Exit(1)


def _stuck_ids(api: AdminApi, choice: Choice) -> list[str]:
    """Those that are stuck longest, as many as may be acted on."""
    asking = {"scope": "stuck", "newest_first": "false"} | filters_of(choice.reason)
    found: list[str] = []
    while len(found) < choice.limit:
        asking["limit"] = str(min(PAGE, choice.limit - len(found)))
        page = api.search(**asking)
        found += [order["orderId"] for order in page["orders"]]
        if not page["next"]:
            break
        asking["cursor"] = page["next"]
    return found


def _preview(
    action: str, api: AdminApi, choice: Choice, order_ids: Sequence[str], who: str, *, as_json: bool
) -> None:
    found = asked(lambda: api.stuck_groups(**filters_of(choice.reason)))
    whole = sum(group["orders"] for group in found["groups"])
    if as_json:
        typer.echo(
            json.dumps(
                {"action": action, "preview": True, "orders": list(order_ids), **found}, indent=2
            )
        )
        return
    print_groups(found["groups"])
    count = f"{len(order_ids):,} order{'s' if len(order_ids) != 1 else ''}"
    rest = f" of {whole:,}, those that are stuck longest (--limit)"
    typer.echo(
        f"{action} would take {count}{rest if whole > len(order_ids) else ''}, by {visible(who)}"
    )
    typer.echo("nothing is done yet; the same with --yes does it")


def _each(
    action: str, api: AdminApi, order_ids: Sequence[str], body: dict[str, str]
) -> tuple[list[Result], list[str]]:
    """What became of each, and those that were not tried since nobody answers any more."""
    results: list[Result] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(order_ids), AT_ONCE):
            batch = order_ids[start : start + AT_ONCE]
            done = list(pool.map(lambda order_id: _one(action, api, order_id, body), batch))
            results += [result for result, _ in done]
            if len(results) % TOLD_EVERY == 0:
                note(f"{len(results):,} of {len(order_ids):,}")
            if any(away for _, away in done):
                return results, list(order_ids[start + len(batch) :])
    return results, []


def _one(action: str, api: AdminApi, order_id: str, body: dict[str, str]) -> tuple[Result, bool]:
    try:
        order = api.act(action, order_id, **body)
    except OperatorError as error:
        return Result(order_id, False, None, str(error)), isinstance(error, AwayError)
    return Result(order_id, True, order.get("state"), None), False


def _document(action: str, results: Sequence[Result], left: Sequence[str]) -> dict[str, object]:
    done = sum(result.done for result in results)
    return {
        "action": action,
        "done": done,
        "refused": len(results) - done,
        "notTried": list(left),
        "results": [
            {"orderId": result.order_id}
            | {name: value for name, value in asdict(result).items() if name != "order_id"}
            for result in results
        ],
    }


def _print_results(action: str, results: Sequence[Result]) -> None:
    """How many came to which state, and each that was refused."""
    table = open_table()
    table.add_column("orders", justify="right", no_wrap=True)
    table.add_column(action, no_wrap=True)
    table.add_column("now", overflow="fold")
    found = Counter((result.done, result.state or result.problem or "") for result in results)
    rows = sorted(found.items(), key=lambda one: (not one[0][0], -one[1]))
    for (done, what), count in rows[:ROWS_SHOWN]:
        table.add_row(cell(f"{count:,}"), "done" if done else "refused", cell(what))
    refused = [result for result in results if not result.done]
    for result in refused[:REFUSALS_SHOWN]:
        typer.echo(visible(f"{result.order_id}: {result.problem}"))
    if len(refused) > REFUSALS_SHOWN:
        typer.echo(f"and {len(refused) - REFUSALS_SHOWN:,} more were refused; --json names them")
    console().print(table)
