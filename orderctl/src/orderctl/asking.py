"""What the commands about orders have in common: their options, and how the admin port is asked."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orderctl.admin_api import AdminApi
from orderctl.errors import OperatorError
from orderctl.options import duration_s
from orderctl.running import USAGE, fail

if TYPE_CHECKING:
    from collections.abc import Callable

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="ADMIN_URL_ORDER_ORCHESTRATOR_0",
        help="The admin port of an orchestrator, as `make env` tells it.",
    ),
]


class State(StrEnum):
    """Where an order's saga is."""

    PENDING = "PENDING"
    RESERVING = "RESERVING"
    HOLDING = "HOLDING"
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    CHARGING = "CHARGING"
    COMPLETING = "COMPLETING"
    COMPENSATING = "COMPENSATING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


ENDED: Final = frozenset({State.CONFIRMED, State.REJECTED, State.CANCELLED})


def open_api(url: str) -> AdminApi:
    """The orchestrator at `url`; ends the process where that is no address."""
    api: AdminApi = asked(lambda: AdminApi(url))
    return api


def asked(ask: Callable[[], Any]) -> Any:
    """The answer; ends the process where there is none."""
    try:
        return ask()
    except OperatorError as error:
        fail(str(error))


def seconds_of(given: str) -> int:
    """`90s`, `5m`, `2h` or `1d` in seconds; ends the process where it is none of them."""
    try:
        return round(duration_s(given))
    except ValueError as error:
        fail(str(error), USAGE)
