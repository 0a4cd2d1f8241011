"""`orderctl coupon`: how campaigns stand, and how an operator puts one."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

from orderctl.admin_api import CouponApi
from orderctl.asking import asked
from orderctl.campaign_files import campaign_in
from orderctl.commanding import CommandId, Within, answered, drawn_id, print_message
from orderctl.coupon_asking import COUPON, ask_coupon
from orderctl.coupon_options import ADMIN_URL, Coupon
from orderctl.coupon_text import print_campaign, print_campaigns, print_put
from orderctl.options import AsJson, Bootstrap, Prefix, checked
from shared.contracts.coupon import CampaignLife, CampaignPut
from shared.kafka.connection import KafkaConnection

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar=ADMIN_URL,
        help="The admin port of an instance of coupon, as `make env` tells it.",
    ),
]


def list_campaigns(
    url: Url,
    life: Annotated[
        CampaignLife | None, typer.Option(help="Only those that are draft, open, closed or drawn.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="So many at once.")] = 50,
    after: Annotated[
        str,
        typer.Option(
            metavar="COUPON",
            help="Go on behind this campaign.",
            callback=checked("campaign", optional=True),
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List the campaigns, in the order of their ids.

    Example: orderctl coupon list --life open
    """
    asking = {"limit": str(limit)}
    if life:
        asking["life"] = life
    if after:
        asking["after"] = after
    print_campaigns(asked(lambda: CouponApi(url).campaigns(**asking)), life, as_json=as_json)


def show(coupon: Coupon, url: Url, as_json: AsJson = False) -> None:
    """Show a campaign: its kind, its life, its discount, and what became of its coupons.

    Example: orderctl coupon show WELCOME10
    """
    print_campaign(asked(lambda: CouponApi(url).campaign(coupon)), as_json=as_json)


def put(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="One PutCampaign as JSON; - is standard input."),
    ],
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    command_id: CommandId = "",
    within: Within = 15,
    as_json: AsJson = False,
) -> None:
    """Put a campaign as a file says it, or change one that runs.

    A change says all of the campaign again: what it leaves out is gone, its end as well.
    `type` and `commandId` may be left out. What can't be read is not published, nor is a field
    that no campaign has.

    Example: orderctl coupon put campaign.json
    """
    command = asked(lambda: campaign_in(file, command_id, drawn_id))
    answer = answered(
        ask_coupon(KafkaConnection(bootstrap_servers, prefix), command, within_s=within),
        COUPON,
        CampaignPut,
        command_id=command.command_id,
        brokers=bootstrap_servers,
        wait_s=within,
        as_json=as_json,
    )
    if as_json:
        print_message(answer)
    else:
        print_put(answer, command)
