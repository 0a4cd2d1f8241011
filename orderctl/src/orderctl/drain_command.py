"""`orderctl drain`: what is under way, and what of it blocks a deploy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from order_orchestrator.saga import DEFINITION_VERSION
from orderctl.draining import Look, look, wait_until_at_rest
from orderctl.options import AsJson, Bootstrap, Database, Prefix
from orderctl.running import note, run
from orderctl.terminal import cell, console, open_table, short_time
from shared.contracts.base import format_time
from shared.kafka.connection import KafkaConnection

if TYPE_CHECKING:
    from datetime import datetime

    from rich.text import Text


def drain(
    database_url: Database,
    bootstrap_servers: Bootstrap = "",
    prefix: Prefix = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Until nothing is under way that ends by itself.")
    ] = False,
    within: Annotated[
        float, typer.Option(help="With --wait: seconds at most.", min=0, max=86_400)
    ] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Tell what is under way, and what of it blocks a deploy; exit code 1 where something does.

    Sagas in flight finish on new code, and so do messages and chunks that wait: they are told and
    block nothing. What blocks: sagas of a definition newer than this release, as before going
    back to it, and chunks that nobody publishes. Stop taking orders first where nothing at all
    may be under way, then say --wait: exit code 1 where the time is up. Orders that are stuck,
    await their payment or wait for their PlaceOrder aren't waited for. A database that takes
    connections and doesn't answer within 10 s ends it, with exit code 1.

    Example: orderctl drain --wait --within 120
    """
    kafka = KafkaConnection(bootstrap_servers, prefix) if bootstrap_servers else None

    found = run(
        wait_until_at_rest(
            database_url, kafka, within_s=within, tell=lambda moving: note(f"under way: {moving}")
        )
        if wait
        else look(database_url, kafka),
        url=database_url,
        brokers=bootstrap_servers,
    )
    late = wait and bool(found.at_work)
    blocks = found.blocks()
    if as_json:
        typer.echo(json.dumps(found.document() | {"timeIsUp": late}, indent=2))
    else:
        _print(found)
    if kafka is None:
        note("KAFKA_BOOTSTRAP_SERVERS is not set: no lag was looked at")
    for block in blocks:
        note(f"blocks: {block}")
    if late:
        note(f"after {within:g} s there is still under way: {found.at_work}")
    if blocks or late:
        raise typer.Exit(1)


def _print(found: Look) -> None:
    table = open_table()
    table.add_column("", overflow="fold", min_width=29)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("oldest (UTC)", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in found.sagas:
        what = f"sagas in {row['state']}"
        if row["stuck"]:
            why = "stuck: `orderctl list`"
        elif row["moving"]:
            why = "under way: finish on new code"
        else:
            why = "wait for their users"
        if row["definition_version"] != DEFINITION_VERSION:
            why += f", definition {row['definition_version']}"
        table.add_row(*_cells(what, row["sagas"], row["oldest"], why))
    for row in found.chunks:
        why = f"{row['late']:,} past their lease" if row["late"] else "under way"
        what = f"unpublished chunks of {row['schema']}"
        table.add_row(*_cells(what, row["chunks"], row["oldest"], why))
    for group, lag in found.lag.items():
        if lag:
            table.add_row(*_cells(f"messages for {group}", lag, None, "under way"))
    if found.parked["commands"]:
        why = "wait for their PlaceOrder"
        table.add_row(
            *_cells("parked commands", found.parked["commands"], found.parked["oldest"], why)
        )
    if table.row_count:
        console().print(table)
    else:
        typer.echo("nothing is under way")
    if not found.blocks():
        typer.echo("nothing blocks a deploy")


def _cells(what: str, count: int, oldest: datetime | None, why: str) -> list[Text]:
    since = short_time(format_time(oldest)) if oldest else ""
    return [cell(text) for text in (what, f"{count:,}", since, why)]
