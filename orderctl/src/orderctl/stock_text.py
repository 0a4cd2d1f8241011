"""Products and their units, as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer

from orderctl.running import note
from orderctl.terminal import cell, console, facts_table, open_table, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from orderctl.admin_api import Document

_COUNTERS: Final = ("available", "reserved", "sold", "received")


def print_product(product: Document, *, as_json: bool) -> None:
    """All there is to say of a product, or what stock answered."""
    if as_json:
        typer.echo(json.dumps(product, indent=2))
        return
    console().print(facts_table(_facts(product)))


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


def print_advice(told: Document, *, as_json: bool) -> None:
    """What stock advises, and how to follow it."""
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    products, seconds = told["products"], told["windowS"]
    if not products:
        typer.echo(f"no product was contended in the last {seconds} s: there is nothing to advise")
        return
    table = open_table()
    table.add_column("product", overflow="fold")
    table.add_column("at work", no_wrap=True)
    table.add_column("advised", no_wrap=True)
    for name in ("orders", "conflicts", "refused", "lock wait"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in products:
        chooses = " (auto)" if one["strategy"] == "auto" else ""
        measured = (f"{one[name]:,}" for name in ("commands", "conflicts", "refusals"))
        table.add_row(
            cell(one["productId"]),
            cell(f"{one['activeStrategy']}{chooses}"),
            cell(one["advised"]),
            *map(cell, measured),
            cell(f"{one['lockWaitMs'] / 1000:.1f} s"),
        )
    console().print(table)
    typer.echo(f"measured in the last {seconds} s, by all instances together")
    for one in products:
        if one["advised"] != one["activeStrategy"]:
            typer.echo(visible(f"{one['productId']}: {one['why']}"))
            if one["strategy"] == "auto":
                typer.echo("  it chooses by itself within a minute")
            else:
                typer.echo(
                    visible(f"  orderctl stock strategy {one['productId']} {one['advised']}")
                )


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
    table = open_table()
    table.add_column("product", overflow="fold")
    for name in _COUNTERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for level in levels:
        mark = "low" if _is_low(level, threshold) else ""
        counters = (cell(f"{level[name]:,}") for name in _COUNTERS)
        table.add_row(cell(level["productId"]), *counters, cell(mark))
    return table
