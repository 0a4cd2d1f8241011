"""Coupon's own port: how campaigns stand, a page at a time or one with its statistics, and who
entered a lottery.

All of it is read and nothing is written. A lottery's seed is told once it is drawn.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.admin import faults, in_time, json_problem
from shared.contracts.base import format_time
from shared.contracts.coupon import CampaignKind, CampaignLife
from shared.contracts.explaining import shorten
from shared.contracts.ids import ID_PATTERN, is_id
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg
    from starlette.requests import Request

    from shared.database import Connection, Pool

CAMPAIGNS_AT_MOST: Final = 1_000
"""Of one page."""
ENTRIES_AT_MOST: Final = 10_000
"""Of one page."""
MAX_ENTRIES: Final = 2**31 - 1
"""Of a lottery: what its counter can hold."""

queries: Final = Queries("coupon", "sql/statistics.sql")


class Page(BaseModel):
    """Which campaigns are asked for."""

    model_config = ConfigDict(extra="forbid")

    life: CampaignLife | None = None
    after: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    """The campaign behind which the page begins: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=CAMPAIGNS_AT_MOST)] = 100


class EntriesPage(BaseModel):
    """Which entries of a lottery are asked for."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, le=MAX_ENTRIES)] = 0
    """The number behind which the page begins: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=ENTRIES_AT_MOST)] = 1_000


class CampaignsApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool) -> None:
        """Read through `pool`."""
        self._pool = pool

    def routes(self) -> list[Route]:
        """What the admin port serves beside health and metrics."""
        return [
            Route("/campaigns", self.campaigns),
            Route("/campaigns/{coupon_id}", self.campaign),
            Route("/lotteries/{coupon_id}/entries", self.entries),
        ]

    async def campaigns(self, request: Request) -> Response:
        """A page of campaigns in key order, and behind which campaign the next one begins."""
        try:
            page = Page.model_validate(dict(request.query_params))
        except ValidationError as error:
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid page", faults(error))
        rows = await in_time(self._read_page(page))
        return JSONResponse(
            {
                "campaigns": [_campaign(row) for row in rows],
                "next": rows[-1]["coupon_id"] if len(rows) == page.limit else None,
            }
        )

    async def campaign(self, request: Request) -> Response:
        """One campaign and its statistics."""
        coupon_id = request.path_params["coupon_id"]
        found = await in_time(self._read_campaign(coupon_id)) if is_id(coupon_id) else None
        return _unknown(coupon_id) if found is None else JSONResponse(found)

    async def entries(self, request: Request) -> Response:
        """A page of a lottery's entries in the order in which they came, and behind which number
        the next one begins."""
        coupon_id = request.path_params["coupon_id"]
        try:
            page = EntriesPage.model_validate(dict(request.query_params))
        except ValidationError as error:
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid page", faults(error))
        if not is_id(coupon_id):
            return _unknown(coupon_id)
        kind, rows = await in_time(self._read_entries(coupon_id, page))
        if kind is None:
            return _unknown(coupon_id)
        if kind != CampaignKind.LOTTERY:
            detail = f"the campaign {coupon_id} is {kind}: nobody enters it"
            return json_problem(HTTPStatus.NOT_FOUND, "Not a lottery", detail)
        return JSONResponse(
            {
                "entries": [_entry(row) for row in rows],
                "next": rows[-1]["number"] if len(rows) == page.limit else None,
            }
        )

    async def _read_page(self, page: Page) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.read_campaigns.rows(
                connection,
                after=page.after or "",
                coupon_id=None,
                life=page.life,
                campaigns=page.limit,
            )

    async def _read_campaign(self, coupon_id: str) -> dict[str, Any] | None:
        """One moment for all of it: what was issued is what the states add up to."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            row = await _find(connection, coupon_id)
            if row is None:
                return None
            counted = await queries.count_coupons.row(connection, coupon_id=coupon_id)
            granted = await queries.sum_discounts.value(connection, coupon_id=coupon_id)
        assert counted is not None  # an aggregate has its row
        return _campaign(row) | _statistics(row, counted, int(granted))

    async def _read_entries(
        self, coupon_id: str, page: EntriesPage
    ) -> tuple[str | None, Sequence[asyncpg.Record]]:
        """The campaign's kind, None where there is none, and the entries."""
        async with self._pool.acquire() as connection:
            row = await _find(connection, coupon_id)
            if row is None:
                return None, ()
            entries = await queries.page_of_entries.rows(
                connection, coupon_id=coupon_id, after=page.after, entries=page.limit
            )
        return row["kind"], entries


async def _find(connection: Connection, coupon_id: str) -> asyncpg.Record | None:
    return await queries.read_campaigns.row(
        connection, after="", coupon_id=coupon_id, life=None, campaigns=1
    )


def _campaign(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "couponId": row["coupon_id"],
        "kind": row["kind"],
        "life": row["life"],
        "limit": row["coupon_limit"],
        "issued": row["issued"],
        "entered": row["entered"],
        "left": row["left_over"],
        "discount": {
            "type": row["discount_type"],
            "value": row["discount_value"],
            "cap": row["discount_cap"],
            "currency": row["currency"],
        },
        "startsAt": _time(row["starts_at"]),
        "endsAt": _time(row["ends_at"]),
        "expiresAt": _time(row["expires_at"]),
    }


def _statistics(row: asyncpg.Record, counted: asyncpg.Record, granted: int) -> dict[str, Any]:
    """A coupon that nobody holds or used is expired from its campaign's `expires_at` on. That is
    told here and stored nowhere."""
    unused, expired = counted["issued"], row["is_expired"]
    return {
        "coupons": {
            "issued": 0 if expired else unused,
            "held": counted["held"],
            "used": counted["used"],
            "expired": unused if expired else 0,
        },
        "winners": row["winners"],
        "drawnAt": _time(row["drawn_at"]),
        "seedHash": row["seed_hash"],
        "seed": row["seed"],
        "rule": row["rule"],
        "discountGranted": granted,
        "currency": row["currency"],
        "firstIssuedAt": _time(counted["first_issued_at"]),
        "lastIssuedAt": _time(counted["last_issued_at"]),
    }


def _entry(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "number": row["number"],
        "userId": row["user_id"],
        "commandId": row["command_id"],
        "enteredAt": _time(row["entered_at"]),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _unknown(coupon_id: str) -> Response:
    detail = (
        f"there is no campaign {coupon_id}"
        if is_id(coupon_id)
        else f"{shorten(coupon_id)} is no campaign id: 1 to 64 of A-Z a-z 0-9 . _ -"
    )
    return json_problem(HTTPStatus.NOT_FOUND, "Unknown campaign", detail)
