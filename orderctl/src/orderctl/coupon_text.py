"""Campaigns, as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from orderctl.running import note
from orderctl.terminal import cell, console, date_of, facts_table, open_table, short_time, visible
from shared.contracts.base import format_time
from shared.contracts.coupon import CampaignKind, DiscountType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rich.table import Table

    from orderctl.admin_api import Document
    from shared.contracts.coupon import CampaignPut, PutCampaign


def print_campaigns(page: Document, life: str | None, *, as_json: bool) -> None:
    """A page of campaigns, or what coupon answered; `life` is what was asked for."""
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    if page["campaigns"]:
        console().print(_table(page["campaigns"]))
    else:
        typer.echo(f"no campaign is {life}" if life else "no campaign is found")
    if page["next"]:
        note(f"--after {page['next']} goes on")


def print_campaign(campaign: Document, *, as_json: bool) -> None:
    """All there is to say of a campaign, or what coupon answered."""
    if as_json:
        typer.echo(json.dumps(campaign, indent=2))
        return
    console().print(facts_table(_facts(campaign)))


def print_put(answer: CampaignPut, command: PutCampaign) -> None:
    """What coupon made of a `PutCampaign`, and the times that count from now on."""
    coupons = "1 coupon" if answer.limit == 1 else f"{answer.limit:,} coupons"
    typer.echo(visible(f"put {answer.coupon_id}: {answer.kind}, {coupons}; {_times(command)}"))
    if answer.seed_hash:
        typer.echo(visible(f"the SHA-256 of its seed is {answer.seed_hash}"))


def _times(command: PutCampaign) -> str:
    """From when until when it is open, and how long its coupons are good."""
    starts, ends = command.starts_at, command.ends_at
    expires = command.expires_at or (None if command.kind is CampaignKind.LOTTERY else ends)
    told = [
        f"opens {_at(starts)}" if starts else "open from now on",
        f"closes {_at(ends)}" if ends else "closes with no date",
        f"coupons are good until {_at(expires)}" if expires else "coupons are good for good",
    ]
    return ", ".join(told)


def _at(moment: datetime) -> str:
    return f"{short_time(format_time(moment))} UTC"


def _table(campaigns: Iterable[Document]) -> Table:
    table = open_table()
    table.add_column("campaign", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("life", no_wrap=True)
    for name in ("limit", "issued", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("discount", overflow="fold")
    table.add_column("ends (UTC)", no_wrap=True)
    for one in campaigns:
        counts = (f"{one[name]:,}" for name in ("limit", "issued", "left"))
        values = (one["couponId"], one["kind"], one["life"], *counts)
        rest = (_discount(one["discount"]), date_of(one["endsAt"]) if one["endsAt"] else "")
        table.add_row(*map(cell, (*values, *rest)))
    return table


def _facts(campaign: Document) -> list[tuple[str, str]]:
    currency = campaign["currency"]
    is_lottery = campaign["kind"] == CampaignKind.LOTTERY
    winners = campaign["winners"]
    return [
        ("campaign", campaign["couponId"]),
        ("kind", campaign["kind"]),
        ("life", campaign["life"]),
        ("discount", _discount(campaign["discount"])),
        ("rule", campaign["rule"] or ""),
        ("starts", short_time(campaign["startsAt"])),
        ("ends", short_time(campaign["endsAt"])),
        ("expires", short_time(campaign["expiresAt"])),
        ("limit", f"{campaign['limit']:,}"),
        ("entered", f"{campaign['entered']:,}" if is_lottery else ""),
        ("drawn", short_time(campaign["drawnAt"])),
        ("winners", "" if winners is None else f"{winners:,}"),
        ("given out", f"{campaign['issued']:,}; {campaign['left']:,} left"),
        ("of these", ", ".join(f"{units:,} {name}" for name, units in campaign["coupons"].items())),
        ("first, last", _from_to(campaign["firstIssuedAt"], campaign["lastIssuedAt"])),
        ("discounts", f"{campaign['discountGranted']:,} {currency} granted"),
        ("seed hash", campaign["seedHash"] or ""),
        ("seed", campaign["seed"] or ""),
    ]


def _discount(discount: Document) -> str:
    if discount["type"] == DiscountType.FIXED:
        return f"{discount['value']:,} {discount['currency']}"
    cap = discount["cap"]
    most = "" if cap is None else f", at most {cap:,} {discount['currency']}"
    return f"{discount['value']}%{most}"


def _from_to(first: str | None, last: str | None) -> str:
    return f"{short_time(first)} to {short_time(last)}" if first else ""
