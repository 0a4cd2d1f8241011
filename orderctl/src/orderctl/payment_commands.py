"""`orderctl payment`: how payments stand, and having the gateway asked anew."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from orderctl.admin_api import PaymentApi
from orderctl.asking import asked
from orderctl.errors import AwayError, OperatorError
from orderctl.options import AsJson, checked
from orderctl.payment_text import print_asked, print_payment, print_payments
from orderctl.running import USAGE, fail, note, one_line

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="ADMIN_URL_PAYMENT_0",
        help="The admin port of an instance of payment, as `make env` tells it.",
    ),
]


class State(StrEnum):
    """Where a payment is."""

    PENDING = "PENDING"
    CANCELLING = "CANCELLING"
    CAPTURED = "CAPTURED"
    REFUNDING = "REFUNDING"
    REFUNDED = "REFUNDED"
    REFUSED = "REFUSED"
    TOMBSTONE = "TOMBSTONE"


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
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
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


def ask(
    orders: Annotated[
        list[str],
        typer.Argument(metavar="ORDER...", help="Ids of orders.", callback=_checked_ids),
    ],
    url: Url,
    as_json: AsJson = False,
) -> None:
    """Have the gateway asked anew, now, about orders whose payment isn't final.

    It is asked under the same key as ever, so nothing is charged twice. What needs a person is
    looked at again. Exit code 1: of one of the orders there was nothing to ask.

    Example: orderctl payment ask o-1 o-2
    """
    api = asked(lambda: PaymentApi(url))
    found: list[dict[str, Any]] = []
    failed = False
    for order in orders:
        try:
            answer = api.ask_anew(order)
        except AwayError as error:
            fail(one_line(error))
        except OperatorError as error:
            failed = True
            note(one_line(error))
            continue
        found.append(answer)
        if not as_json:
            print_asked(answer)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    sys.exit(1 if failed else 0)
