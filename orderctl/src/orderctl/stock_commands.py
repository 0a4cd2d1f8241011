"""`orderctl stock`: how products stand, and what operators do to their units and strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import ValidationError

from orderctl.admin_api import StockApi
from orderctl.asking import asked
from orderctl.commanding import CommandId, Within, answered, drawn_id, print_message
from orderctl.options import AsJson, Bootstrap, Operator, Prefix, checked
from orderctl.running import USAGE, fail, operator_of
from orderctl.stock_asking import STOCK, ask_stock
from orderctl.stock_text import print_advice, print_levels, print_product
from orderctl.terminal import visible
from shared.contracts.base import MAX_NOTE_CHARS, MAX_UNITS
from shared.contracts.stock import (
    AdjustStock,
    SetStockStrategy,
    StockAdjusted,
    StockStrategy,
    StockStrategySet,
)
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from orderctl.stock_asking import Command, Done

AnswerT = TypeVar("AnswerT")

Product = Annotated[
    str, typer.Argument(metavar="PRODUCT", help="The product's id.", callback=checked("product"))
]
Units = Annotated[
    int, typer.Argument(metavar="UNITS", min=1, max=MAX_UNITS, help="How many units.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the ledger.")]
Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="ADMIN_URL_STOCK_0",
        help="The admin port of an instance of stock, as `make env` tells it.",
    ),
]


def show(product: Product, url: Url, as_json: AsJson = False) -> None:
    """Show a product: its price, its strategy and its units.

    Example: orderctl stock show P001
    """
    print_product(asked(lambda: StockApi(url).product(product)), as_json=as_json)


def list_products(
    url: Url,
    low: Annotated[
        bool, typer.Option("--low", help="Only products with LOW_STOCK_UNITS or fewer.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=5_000, help="So many at once.")] = 50,
    after: Annotated[
        str,
        typer.Option(
            metavar="PRODUCT",
            help="Go on behind this product.",
            callback=checked("product", optional=True),
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the products and their units, in the order of their ids.

    Example: orderctl stock list --low
    """
    asking = {"limit": str(limit), "low": str(low).lower()}
    if after:
        asking["after"] = after
    print_levels(asked(lambda: StockApi(url).levels(**asking)), low=low, as_json=as_json)


def advise(url: Url, as_json: AsJson = False) -> None:
    """Say which strategy contended products should have, and why.

    Example: orderctl stock advise
    """
    print_advice(asked(lambda: StockApi(url).advice()), as_json=as_json)


def receive(
    product: Product,
    units: Units,
    reason: Reason,
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    operator: Operator = "",
    command_id: CommandId = "",
    within: Within = 15,
    as_json: AsJson = False,
) -> None:
    """Add units that have come in: they can be sold at once.

    Example: orderctl stock receive P001 500 --reason "delivery 4711"
    """
    command = _adjustment(product, units, reason, operator, command_id)
    answer = _ask(command, StockAdjusted, bootstrap_servers, prefix, within, as_json=as_json)
    _tell(answer, f"received {units:,} of {product}", as_json=as_json)


def write_off(
    product: Product,
    units: Units,
    reason: Reason,
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    operator: Operator = "",
    command_id: CommandId = "",
    within: Within = 15,
    as_json: AsJson = False,
) -> None:
    """Take away units that are available. What orders hold can't be written off.

    Example: orderctl stock write-off P001 3 --reason "broken in the warehouse"
    """
    command = _adjustment(product, -units, reason, operator, command_id)
    answer = _ask(command, StockAdjusted, bootstrap_servers, prefix, within, as_json=as_json)
    _tell(answer, f"wrote off {units:,} of {product}", as_json=as_json)


def strategy(
    product: Product,
    name: Annotated[
        StockStrategy,
        typer.Argument(metavar="NAME", help="optimistic, pessimistic, redis or auto."),
    ],
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    command_id: CommandId = "",
    within: Within = 15,
    as_json: AsJson = False,
) -> None:
    """Choose how orders for a product are decided; orders may flow meanwhile.

    Example: orderctl stock strategy P001 pessimistic
    """
    command = SetStockStrategy(
        command_id=command_id or drawn_id(), product_id=product, strategy=name
    )
    answer = _ask(command, StockStrategySet, bootstrap_servers, prefix, within, as_json=as_json)
    _tell(answer, f"the strategy of {product} is {name}", as_json=as_json)


def _adjustment(
    product: str, delta: int, reason: str, operator: str, command_id: str
) -> AdjustStock:
    """The command; who acts stands before the reason. Ends the process where that is too long."""
    if not reason.strip():
        fail("--reason must say why: it stands in the ledger for good", USAGE)
    told = f"{operator_of(operator)}: {reason}"
    try:
        return AdjustStock(
            command_id=command_id or drawn_id(), product_id=product, delta=delta, reason=told
        )
    except ValidationError:
        fail(
            f"operator and reason may have {MAX_NOTE_CHARS} characters together, and no NUL;"
            f" these have {len(told)}",
            USAGE,
        )


def _ask(
    command: Command,
    kind: type[AnswerT],
    bootstrap_servers: str,
    prefix: str,
    wait_s: int,
    *,
    as_json: bool,
) -> AnswerT:
    """The answer; ends the process where there is none, or stock refuses."""
    asking = ask_stock(KafkaConnection(bootstrap_servers, prefix), command, within_s=wait_s)
    return answered(
        asking,
        STOCK,
        kind,
        command_id=command.command_id,
        brokers=bootstrap_servers,
        wait_s=wait_s,
        as_json=as_json,
    )


def _tell(answer: Done, done: str, *, as_json: bool) -> None:
    if as_json:
        print_message(answer)
        return
    rest = f"; {answer.available:,} available" if isinstance(answer, StockAdjusted) else ""
    typer.echo(visible(f"{done}{rest}"))
