"""`orderctl place` and `show`: orders from a file, and how one stands."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

from orderctl.asking import Url, asked, open_api
from orderctl.message_files import called
from orderctl.options import AsJson, Bootstrap, Prefix, checked
from orderctl.order_files import (
    publish,
    read_lines,
    require_readable,
    unknown_fields,
)
from orderctl.order_text import print_order
from orderctl.running import USAGE, fail, note, run
from shared.kafka.connection import KafkaConnection

OrderId = Annotated[
    str, typer.Argument(metavar="ORDER", help="The order's id.", callback=checked("order"))
]


def place(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="One message a line; - is standard input.")
    ],
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Publish lines that nobody can read, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish the order commands of a file, one JSON object a line.

    It takes PlaceOrder, PayOrder and CancelOrder.

    Where a line can't be read nothing is published, and its number is told.
    A field that no such message has is warned of and published.

    To publish a file again is safe: an order id is obeyed once.

    Example: orderctl place --as-is examples/orders.jsonl
    """

    async def work() -> int:
        lines = read_lines(file)
        if not lines:
            fail(f"{called(file)} holds no message", USAGE)
        if not as_is:
            require_readable(called(file), lines)
        for warning in unknown_fields(called(file), lines):
            note(warning)
        return await publish(KafkaConnection(bootstrap_servers, prefix), lines)

    count = run(work(), brokers=bootstrap_servers)
    if as_json:
        typer.echo(json.dumps({"published": count}))
        return
    typer.echo(f"published {count} message{'s' if count != 1 else ''}")


def show(order_id: OrderId, url: Url, as_json: AsJson = False) -> None:
    """Show how an order stands: its steps, what it owes, its history, what to do about it.

    The history tells what each transition sent and told, where that is certain.

    Example: orderctl show readme-1
    """
    print_order(asked(lambda: open_api(url).order(order_id)), as_json=as_json)
