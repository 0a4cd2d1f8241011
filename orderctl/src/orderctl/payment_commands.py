"""`orderctl payment`: how payments stand, having the gateway asked anew, and closing what a person
saw to."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from orderctl.admin_api import PaymentApi
from orderctl.asking import asked
from orderctl.errors import AwayError, OperatorError
from orderctl.options import AsJson, Operator, checked
from orderctl.payment_text import print_asked, print_closed, print_payment, print_payments
from orderctl.running import USAGE, fail, note, one_line, operator_of
from shared.contracts.payment import PaymentState  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderctl.admin_api import Document

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="ADMIN_URL_PAYMENT_0",
        help="The admin port of an instance of payment, as `make env` tells it.",
    ),
]


def _checked_ids(given: list[str]) -> list[str]:
    check = checked("order")
    return list(dict.fromkeys(check(one) for one in given))


def show(
    order: Annotated[
        str, typer.Argument(metavar="ORDER", help="The order's id.", callback=checked("order"))
    ],
    url: Url,
    as_json: AsJson = False,
) -> None:
    """Show a payment: its state, what was asked of the gateway, and what it moved.

    Example: orderctl payment show o-1
    """
    print_payment(asked(lambda: PaymentApi(url).payment(order)), as_json=as_json)


def list_payments(
    url: Url,
    is_open: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Only those of which nobody knows yet what comes of them, or that need a person;"
            " the oldest first.",
        ),
    ] = False,
    state: Annotated[PaymentState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="So many at once.")] = 50,
    after: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="Go on behind this order; not with --open.",
            callback=checked("order", optional=True),
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List payments, in the order of their ids; the open ones with the oldest first.

    Example: orderctl payment list --open
    """
    if is_open and after:
        fail("--after goes on in the order of ids, and --open lists the oldest first", USAGE)
    asking = {"limit": str(limit)}
    if is_open:
        asking |= {"open": "true", "oldest": "true"}
    if state:
        asking["state"] = state
    if after:
        asking["after"] = after
    page = asked(lambda: PaymentApi(url).payments(**asking))
    print_payments(page, is_open=is_open, as_json=as_json)
    if is_open and len(page["payments"]) == limit:
        note(f"there may be more than {limit:,}: say --limit")


Orders = Annotated[
    list[str], typer.Argument(metavar="ORDER...", help="Ids of orders.", callback=_checked_ids)
]


def ask(orders: Orders, url: Url, as_json: AsJson = False) -> None:
    """Have the gateway asked anew, now, about orders whose payment isn't final.

    It is asked under the same key as ever, so nothing is charged twice. What needs a person is
    looked at again. Exit code 1: of one of the orders there was nothing to ask.

    Example: orderctl payment ask o-1 o-2
    """
    api = asked(lambda: PaymentApi(url))
    _each(orders, api.ask_anew, print_asked, as_json=as_json)


def close(
    orders: Orders,
    url: Url,
    reason: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What you did; it is kept.")
    ],
    operator: Operator = "",
    as_json: AsJson = False,
) -> None:
    """Say that no money of these orders is at the gateway any more: you saw to it.

    For payments that are quarantined. First give back at the gateway what it took; the orders then
    end by themselves, refused or given back. Exit code 1: one of them had nothing to close.

    Example: orderctl payment close o-1 --note "gave 1,300 back at the gateway"
    """
    who = operator_of(operator)
    api = asked(lambda: PaymentApi(url))
    _each(
        orders,
        lambda order: api.close(order, operator=who, note=reason),
        print_closed,
        as_json=as_json,
    )


def _each(
    orders: list[str],
    act: Callable[[str], Document],
    tell: Callable[[Document], None],
    *,
    as_json: bool,
) -> NoReturn:
    """One after the other, and ends the process. A refusal stops nobody, a port away does."""
    found: list[Document] = []
    failed = False
    for order in orders:
        try:
            answer = act(order)
        except AwayError as error:
            fail(one_line(error))
        except OperatorError as error:
            failed = True
            note(one_line(error))
            continue
        found.append(answer)
        if not as_json:
            tell(answer)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    sys.exit(1 if failed else 0)
