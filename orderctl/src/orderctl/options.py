"""Options that several commands have, and durations as all of them take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orderctl.running import USAGE, fail
from shared.contracts.ids import is_id

if TYPE_CHECKING:
    from collections.abc import Callable

Bootstrap = Annotated[
    str, typer.Option(envvar="KAFKA_BOOTSTRAP_SERVERS", help="Addresses of the brokers.")
]
Prefix = Annotated[
    str, typer.Option(envvar="KAFKA_TOPIC_PREFIX", help="Prefix of this deployment's topics.")
]
Database = Annotated[
    str, typer.Option(envvar="DATABASE_URL", help="The operator's address of the database.")
]
Redis = Annotated[str, typer.Option(envvar="REDIS_URL", help="The address of Redis or Valkey.")]
GatewayUrl = Annotated[
    str,
    typer.Option(
        envvar="GATEWAY_URL",
        help="The address of the payment gateway; its key is read from GATEWAY_API_KEY.",
    ),
]
Operator = Annotated[
    str, typer.Option(envvar="ORDERCTL_OPERATOR", help="Who acts; else who is logged in.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"(?P<count>[0-9]{1,6}(?:\.[0-9]{1,3})?)(?P<unit>[smhd])")


def checked(noun: str, *, optional: bool = False) -> Callable[[str], str]:
    """Takes the id of a `noun` and gives it back; ends the process where it is none. An optional
    one may be left out, as ""."""

    def check(given: str) -> str:
        if not (is_id(given) or (optional and not given)):
            fail(f"'{given}' is no {noun} id: 1 to 64 of A-Z a-z 0-9 . _ -", USAGE)
        return given

    return check


def duration_s(given: str) -> float:
    """`90s`, `5m`, `2h` or `1d` in seconds. Raises ValueError with what to write."""
    found = _DURATION.fullmatch(given)
    if found is None:
        from shared.contracts.explaining import shorten  # brings all of pydantic

        raise ValueError(f"{shorten(given)} is no duration; write it as 90s, 5m, 2h or 1d")
    return float(found["count"]) * _UNITS_S[found["unit"]]
