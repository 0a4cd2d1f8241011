"""`orderctl place`, `show`, `list`, `cancel`, `retry` and `settle`: orders and their sagas."""

from __future__ import annotations

import getpass
import json
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orderctl.admin_api import AdminApi, Document
from orderctl.errors import OperatorError
from orderctl.order_files import (
    STDIN,
    publish,
    read_lines,
    require_readable,
    unknown_fields,
)
from orderctl.order_text import facts_table, history_table, list_table
from orderctl.running import USAGE, fail, note, run
from orderctl.terminal import console
from shared.contracts.base import is_id
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from collections.abc import Callable

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="ADMIN_URL_ORDER_ORCHESTRATOR_0",
        help="The admin port of an orchestrator, as `make env` tells it.",
    ),
]


def _order_id(given: str) -> str:
    if not is_id(given):
        fail(f"'{given}' is no order id: 1 to 64 of A-Z a-z 0-9 . _ -", USAGE)
    return given


OrderId = Annotated[
    str, typer.Argument(metavar="ORDER", help="The order's id.", callback=_order_id)
]
Note = Annotated[str, typer.Option(help="Why; it stands in the order's history.")]
Operator = Annotated[
    str, typer.Option(envvar="ORDERCTL_OPERATOR", help="Who acts; else who is logged in.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the orchestrator answers.")]


class Outcome(StrEnum):
    """What a settled order may end as."""

    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


def register(app: typer.Typer) -> None:
    """Add these commands to the tool."""
    for name, command in (
        ("place", place),
        ("show", show),
        ("list", list_orders),
        ("cancel", cancel),
        ("retry", retry),
        ("settle", settle),
    ):
        app.command(name)(command)


def place(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="One message a line; - is standard input.")
    ],
    bootstrap_servers: Annotated[
        str, typer.Option(envvar="KAFKA_BOOTSTRAP_SERVERS", help="Addresses of the brokers.")
    ],
    prefix: Annotated[
        str, typer.Option(envvar="KAFKA_TOPIC_PREFIX", help="Prefix of this deployment's topics.")
    ] = "",
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Publish lines that nobody can read, too.")
    ] = False,
) -> None:
    """Publish the order commands of a file, one JSON object a line.

    It takes PlaceOrder, PayOrder and CancelOrder.

    Where a line can't be read nothing is published, and its number is told.
    A field that no such message has is warned of and published.

    To publish a file again is safe: an order id is obeyed once.
    """

    async def work() -> int:
        lines = read_lines(file)
        if not lines:
            fail(f"{_called(file)} holds no message", USAGE)
        if not as_is:
            require_readable(_called(file), lines)
        for warning in unknown_fields(_called(file), lines):
            note(warning)
        return await publish(KafkaConnection(bootstrap_servers, prefix), lines)

    count = run(work(), brokers=bootstrap_servers)
    typer.echo(f"published {count} message{'s' if count != 1 else ''}")


def _called(file: Path) -> str:
    return "standard input" if file == STDIN else str(file)


def show(order_id: OrderId, url: Url, as_json: AsJson = False) -> None:
    """Show how an order stands: its steps, what is owed, its history."""
    _print_order(_asked(lambda: AdminApi(url).order(order_id)), as_json=as_json)


def list_orders(
    url: Url,
    stuck: Annotated[
        bool,
        typer.Option("--stuck", help="Those that wait for an operator; there is no other list."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """List the orders that wait for an operator, longest first.

    Orders that go their way are shown by `show ORDER`.
    """
    orders = _asked(lambda: AdminApi(url).stuck())
    if as_json:
        typer.echo(json.dumps(orders, indent=2))
    elif not orders:
        typer.echo("no order is stuck")
    else:
        console().print(list_table(orders))


def cancel(
    order_id: OrderId, url: Url, note: Note, operator: Operator = "", as_json: AsJson = False
) -> None:
    """Cancel an order, as its user could."""
    _act("cancel", order_id, url, as_json=as_json, operator=operator, note=note)


def retry(
    order_id: OrderId, url: Url, note: Note, operator: Operator = "", as_json: AsJson = False
) -> None:
    """Send a stuck order's commands again."""
    _act("retry", order_id, url, as_json=as_json, operator=operator, note=note)


def settle(
    order_id: OrderId,
    url: Url,
    outcome: Annotated[Outcome, typer.Option(help="What the order ends as.")],
    note: Note,
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """End a stuck order by your word; what it still owes is written off."""
    _act(
        "settle", order_id, url, as_json=as_json,
        operator=operator, note=note, outcome=outcome.value,
    )  # fmt: skip


def _act(
    action: str, order_id: str, url: str, *, as_json: bool, operator: str, **body: str
) -> None:
    who = operator or getpass.getuser()
    order = _asked(lambda: AdminApi(url).act(action, order_id, operator=who, **body))
    _print_order(order, as_json=as_json)


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OperatorError as error:
        fail(str(error))


def _print_order(order: Document, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(order, indent=2))
        return
    out = console()
    out.print(facts_table(order))
    if order.get("history"):
        out.print()
        out.print(history_table(order))
