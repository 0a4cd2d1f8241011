"""Options that the commands about coupons and lotteries have in common."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from orderctl.options import checked

ADMIN_URL: Final = "ADMIN_URL_COUPON_0"

Coupon = Annotated[
    str, typer.Argument(metavar="COUPON", help="The campaign's id.", callback=checked("campaign"))
]
