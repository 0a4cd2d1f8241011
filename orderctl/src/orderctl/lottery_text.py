"""What came of verifying a lottery, as people and programs read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from orderctl.terminal import cell, console, open_table, visible

if TYPE_CHECKING:
    from orderctl.admin_api import Document
    from orderctl.lottery_checks import Verification
    from shared.contracts.coupon import LotteryDrawn


def print_draw(draw: LotteryDrawn) -> None:
    """What coupon answered to a `DrawLottery`."""
    counts = f"{draw.winner_count:,} of {draw.entry_count:,} entries win"
    typer.echo(visible(f"drew {draw.coupon_id}: {counts}; the seed is {draw.seed}"))
    typer.echo(visible(f"orderctl lottery verify {draw.coupon_id} recomputes it"))


def print_verification(coupon_id: str, found: Verification, *, as_json: bool) -> None:
    """Each check with what was found, and how anyone computes a ticket."""
    if as_json:
        typer.echo(json.dumps(_document(coupon_id, found), indent=2))
        return
    table = open_table()
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in found.checks:
        table.add_row(cell(check.name), cell(check.verdict), cell(check.found))
    console().print(table)
    if found.draw is None:
        return
    seed = found.draw.seed
    typer.echo(visible(f"\nthe seed is {seed}; the ticket of USER is what this prints:", keep="\n"))
    typer.echo(visible(f'  printf %s "{seed}:USER" | sha256sum'))
    if found.last_ticket:
        lowest = f"the {found.draw.winner_count:,} lowest tickets"
        typer.echo(visible(f"{lowest} win, up to {found.last_ticket}"))


def _document(coupon_id: str, found: Verification) -> Document:
    draw = found.draw
    return {
        "couponId": coupon_id,
        "verdict": found.verdict,
        "checks": [
            {"name": check.name, "verdict": check.verdict, "found": check.found}
            for check in found.checks
        ],
        "draw": None if draw is None else draw.model_dump(mode="json", by_alias=True),
        "lastTicket": found.last_ticket,
    }
