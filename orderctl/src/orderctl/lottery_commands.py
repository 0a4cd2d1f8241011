"""`orderctl lottery`: draw one, and verify the draw from what is published."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated, Final

import typer

from orderctl.admin_api import CouponApi
from orderctl.commanding import CommandId, Within, answered, drawn_id, print_message
from orderctl.coupon_asking import COUPON, ask_coupon
from orderctl.coupon_options import ADMIN_URL, Coupon
from orderctl.errors import OperatorError
from orderctl.lottery_checks import Verdict, verify, why_not_verifiable
from orderctl.lottery_evidence import entries_in, entries_told, read_history
from orderctl.lottery_text import print_draw, print_verification
from orderctl.options import AsJson, Bootstrap, Prefix
from orderctl.running import USAGE, fail, one_line, run
from shared.contracts.coupon import DrawLottery, LotteryDrawn
from shared.kafka.connection import KafkaConnection

UNKNOWN: Final = 2
"""Exit code where a draw could not be verified, or not yet."""
_CODES: Final = {Verdict.OK: 0, Verdict.FAILED: 1, Verdict.OPEN: UNKNOWN}


def draw(
    coupon: Coupon,
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    command_id: CommandId = "",
    within: Within = 60,
    as_json: AsJson = False,
) -> None:
    """Draw a lottery: its winners are decided for good, and its seed is published.

    Example: orderctl lottery draw SPRING-DRAW
    """
    command = DrawLottery(command_id=command_id or drawn_id(), coupon_id=coupon)
    answer = answered(
        ask_coupon(KafkaConnection(bootstrap_servers, prefix), command, within_s=within),
        COUPON,
        LotteryDrawn,
        command_id=command.command_id,
        brokers=bootstrap_servers,
        wait_s=within,
        as_json=as_json,
    )
    if as_json:
        print_message(answer)
    else:
        print_draw(answer)


def verify_draw(
    coupon: Coupon,
    bootstrap_servers: Bootstrap,
    prefix: Prefix = "",
    url: Annotated[
        str,
        typer.Option(
            "--url",
            envvar=ADMIN_URL,
            help="The admin port of an instance of coupon, which tells the entries.",
        ),
    ] = "",
    entries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take the entries from a saved list, one user a line; - is standard input.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a draw from what is published, and say whether it is as it was promised.

    It reads coupon.events.v1 and the list of entries, and trusts no table. Exit code 0: all checks
    are ok; 1: one failed; 2: none failed, but the draw could not be verified, or not yet.

    Example: orderctl lottery verify SPRING-DRAW
    """
    if entries is None and not url:
        fail(
            f"where the entries are is missing: --url ({ADMIN_URL}; `export $(make -s env)` sets"
            " it), or a saved list by --entries FILE",
            USAGE,
        )
    history = run(
        read_history(KafkaConnection(bootstrap_servers, prefix), coupon),
        brokers=bootstrap_servers,
        code=UNKNOWN,
    )
    if problem := why_not_verifiable(history):
        fail(problem, UNKNOWN)
    try:
        users = entries_told(CouponApi(url), coupon) if entries is None else entries_in(entries)
    except OperatorError as error:
        fail(one_line(error), UNKNOWN)
    found = verify(history, users)
    print_verification(coupon, found, as_json=as_json)
    sys.exit(_CODES[found.verdict])
