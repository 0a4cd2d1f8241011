"""Products and their units, as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer
from rich.table import Table

from orderctl.running import note
from orderctl.terminal import cell, console

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderctl.admin_api import Document

_COUNTERS: Final = ("available", "reserved", "sold", "received")


def print_product(product: Document, *, as_json: bool) -> None:
    """All there is to say of a product, or what stock answered."""
    if as_json:
        typer.echo(json.dumps(product, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(product):
        table.add_row(cell(name), cell(value))
    console().print(table)


def print_levels(page: Document, *, low: bool, as_json: bool) -> None:
    """A page of products and their units, or what stock answered."""
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    levels, threshold = page["levels"], page["lowStockUnits"]
    if levels:
        console().print(_table(levels, threshold))
    elif low:
        typer.echo(f"no product has {threshold:,} units available or fewer")
    else:
        typer.echo("no product is found")
    if page["next"]:
        note(f"--after {page['next']} goes on")


def _facts(product: Document) -> list[tuple[str, str]]:
    strategy, active = product["strategy"], product["activeStrategy"]
    at_most = product.get("maxPerOrder")
    return [
        ("product", product["productId"]),
        ("name", product["name"]),
        ("price", f"{product['price']:,} {product['currency']}"),
        ("strategy", strategy if active == strategy else f"{strategy}, at present {active}"),
        ("redis down", product["whenRedisDown"]),
        ("an order", f"{at_most:,} units at most" if at_most is not None else "any number"),
        *((name, f"{product[name]:,}{_low(product, name)}") for name in _COUNTERS),
        ("version", f"{product['version']:,}"),
    ]


def _low(product: Document, counter: str) -> str:
    threshold = product["lowStockUnits"]
    is_low = counter == "available" and _is_low(product, threshold)
    return f" (low: {threshold:,} or fewer)" if is_low else ""


def _is_low(level: Document, threshold: int) -> bool:
    return 0 < threshold >= int(level["available"])


def _table(levels: Iterable[Document], threshold: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("product", overflow="fold")
    for name in _COUNTERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for level in levels:
        mark = "low" if _is_low(level, threshold) else ""
        counters = (cell(f"{level[name]:,}") for name in _COUNTERS)
        table.add_row(cell(level["productId"]), *counters, cell(mark))
    return table
