"""`orderctl cancel`, `retry` and `settle`: for one order, several, or all that are stuck alike."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orderctl.asking import Url, asked, open_api
from orderctl.group_action import Done, act_on_each, document, interrupts, tell
from orderctl.list_command import filters_of, print_groups
from orderctl.options import AsJson, Operator, checked
from orderctl.order_text import print_order
from orderctl.running import INTERRUPTED, USAGE, fail, operator_of
from orderctl.terminal import visible
from shared.contracts.base import format_time
from shared.contracts.explaining import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderctl.admin_api import AdminApi

PAGE: Final = 1_000
MOST: Final = 100_000
"""Orders of one command: at 0.2 KiB each it stays below 20 MB."""


def _checked_ids(given: list[str] | None) -> list[str]:
    check = checked("order")
    return [check(one) for one in given or ()]


def _checked_moment(given: str) -> str:
    """In UTC with milliseconds, or ""; ends the process where it is no moment."""
    if not given:
        return ""
    try:
        moment = datetime.fromisoformat(given)
        written = format_time(moment)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        fail(f"{shorten(given)} is no moment; write it as 2026-01-31T09:00:00.000Z", USAGE)
    return written


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
Limit = Annotated[int, typer.Option(min=1, max=MOST, help="With --all-stuck: so many at most.")]
StuckBefore = Annotated[
    str,
    typer.Option(
        metavar="MOMENT",
        help="With --all-stuck: none that got stuck later, as 2026-01-31T09:00:00.000Z.",
        callback=_checked_moment,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="With --all-stuck and --stuck-before: do it. Without it the command tells what it"
        " would do, and what to run to do just that.",
    ),
]
Note = Annotated[str, typer.Option(help="Why; it stands in the order's history.")]


class Outcome(StrEnum):
    """What a settled order may end as."""

    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which orders: those that are named, or those that are stuck."""

    order_ids: list[str]
    all_stuck: bool
    reason: str
    stuck_before: str
    """A moment as messages write it, or "": what got stuck later is left alone."""
    limit: int
    yes: bool

    def check(self) -> None:
        """Ends the process where it is none, or not clear."""
        if bool(self.order_ids) is self.all_stuck:
            fail(
                "name orders, or say --all-stuck for those that wait for an operator"
                f"{': not both' if self.order_ids else ''}",
                USAGE,
            )
        if not self.all_stuck and (self.reason or self.stuck_before or self.yes):
            fail("--reason, --stuck-before and --yes go with --all-stuck", USAGE)
        if self.yes and not self.stuck_before:
            fail(
                "--yes takes what was shown, not what got stuck since: say the same without --yes,"
                " and run the command with --stuck-before that it prints",
                USAGE,
            )

    def filters(self) -> dict[str, str]:
        """What selects them among all orders."""
        before = {"stuck_before": self.stuck_before} if self.stuck_before else {}
        return filters_of(self.reason) | before


def cancel(
    context: typer.Context,
    url: Url,
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    stuck_before: StuckBefore = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Cancel orders, as their users could: refused once an order is confirmed.

    Of several, each is tried; exit code 1 says that one was refused.

    Example: orderctl cancel readme-1 --note "the shop asked for it"
    """
    choice = Choice(orders or [], all_stuck, reason, stuck_before, limit, yes)
    _act(context, choice, url, as_json=as_json, operator=operator, note=note)


def retry(
    context: typer.Context,
    url: Url,
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    stuck_before: StuckBefore = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Send the commands of stuck orders again.

    Of several, each is tried; exit code 1 says that one was refused. With --all-stuck it tells
    what it would do, and prints the command that does it to just those orders. Ctrl-C ends it
    between two orders and says how many are done; the same command goes on with the rest.

    Example: orderctl retry --all-stuck --reason unanswered --note "stock is back"
    """
    choice = Choice(orders or [], all_stuck, reason, stuck_before, limit, yes)
    _act(context, choice, url, as_json=as_json, operator=operator, note=note)


def settle(
    context: typer.Context,
    url: Url,
    outcome: Annotated[Outcome, typer.Option(help="What the orders end as.")],
    note: Note,
    orders: OrderIds = None,
    all_stuck: AllStuck = False,
    reason: Reason = "",
    stuck_before: StuckBefore = "",
    limit: Limit = 1_000,
    yes: Yes = False,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """End stuck orders by your word; what they still owe is written off.

    Of several, each is tried; exit code 1 says that one was refused. With --all-stuck it tells
    what it would do, and prints the command that does it to just those orders. Ctrl-C ends it
    between two orders and says how many are done; the same command goes on with the rest.

    Example: orderctl settle --all-stuck --outcome REJECTED --note "units were counted by hand"
    """
    choice = Choice(orders or [], all_stuck, reason, stuck_before, limit, yes)
    _act(
        context, choice, url, as_json=as_json,
        operator=operator, note=note, outcome=outcome.value,
    )  # fmt: skip


def _act(
    context: typer.Context,
    choice: Choice,
    url: str,
    *,
    as_json: bool,
    operator: str,
    **body: str,
) -> None:
    choice.check()
    action = str(context.info_name)
    api, body = open_api(url), {"operator": operator_of(operator)} | body
    if len(choice.order_ids) == 1:
        order_id = choice.order_ids[0]
        with interrupts() as stop:
            order = asked(lambda: api.act(action, order_id, **body))
        print_order(order, as_json=as_json)
        raise typer.Exit(INTERRUPTED if stop.is_set() else 0)
    order_ids, until = list(dict.fromkeys(choice.order_ids)), ""
    if choice.all_stuck:
        order_ids, until = asked(lambda: _stuck_orders(api, choice))
    if not order_ids:
        typer.echo(json.dumps(document(action, Done())) if as_json else "no such order is stuck")
    elif choice.all_stuck and not choice.yes:
        _preview(context, api, choice, order_ids, until, body["operator"], as_json=as_json)
    else:
        done = act_on_each(action, api, order_ids, body)
        tell(action, done, as_json=as_json)
        raise typer.Exit(INTERRUPTED if done.interrupted else 0 if done.whole else 1)


def _command_line(context: typer.Context, more: dict[str, object]) -> str:
    """The command that was given, with `more` of its options; what came from the environment
    comes from there again."""
    words = context.command_path.split()
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name in more or (source is not None and source.name == "COMMANDLINE"):
            value = more.get(name, context.params[name])
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(words)


def _stuck_orders(api: AdminApi, choice: Choice) -> tuple[list[str], str]:
    """Those that are stuck longest, as many as may be acted on, and since when the last one is."""
    asking = {"scope": "stuck", "newest_first": "false"} | choice.filters()
    found: list[str] = []
    until = ""
    while len(found) < choice.limit:
        asking["limit"] = str(min(PAGE, choice.limit - len(found)))
        page = api.search(**asking)
        found += [order["orderId"] for order in page["orders"]]
        until = page["orders"][-1]["since"] if page["orders"] else until
        if not page["next"]:
            break
        asking["cursor"] = page["next"]
    return found, until


def _preview(
    context: typer.Context,
    api: AdminApi,
    choice: Choice,
    order_ids: Sequence[str],
    until: str,
    who: str,
    *,
    as_json: bool,
) -> None:
    """Tells what would be done to these, of which the last is stuck since `until`."""
    action = str(context.info_name)
    again = _command_line(context, {"stuck_before": until, "yes": True})
    filters = choice.filters()
    if len(order_ids) < choice.limit:
        # These are all: what got stuck since they were read is left out of the groups as well.
        filters["stuck_before"] = until
    found = asked(lambda: api.stuck_groups(**filters))
    whole = sum(group["orders"] for group in found["groups"])
    if as_json:
        told = {"action": action, "preview": True, "stuckBefore": until, "command": again}
        typer.echo(json.dumps(told | {"orders": list(order_ids), **found}, indent=2))
        return
    print_groups(found["groups"])
    count = f"{len(order_ids):,} order{'s' if len(order_ids) != 1 else ''}"
    rest = f" of {whole:,}, those that are stuck longest (--limit)"
    typer.echo(
        f"{action} would take {count}{rest if whole > len(order_ids) else ''}, by {visible(who)}"
    )
    typer.echo("nothing is done yet; this does it, and leaves alone what gets stuck meanwhile:")
    typer.echo(visible(again))
