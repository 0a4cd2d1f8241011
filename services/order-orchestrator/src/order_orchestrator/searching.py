"""What operators look for: lists of orders by state, age, user and reason, each search bounded.

A search may look at `LOOKED_AT` orders that have ended and may take `SEARCH_MS`. It says how far
it came, and its cursor goes on from there: whoever asks pays for the whole, a piece at a time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from order_orchestrator.documents import time_text
from order_orchestrator.domain import ENDED, SagaState
from order_orchestrator.store import queries
from shared.admin import faults, in_time, json_problem
from shared.contracts.base import Timestamp
from shared.database import Queries

if TYPE_CHECKING:
    from starlette.requests import Request

    from shared.database import Connection, Pool

LOOKED_AT: Final = 20_000
"""So many orders of the past at once: some 50 ms where their pages are in memory."""
SEARCH_MS: Final = 5_000
GROUPS_AT_MOST: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

searches = Queries("order_orchestrator", "sql/searches.sql")


class Search(BaseModel):
    """What is looked for; what isn't given filters nothing."""

    model_config = ConfigDict(extra="forbid")

    scope: Literal["all", "under_way", "stuck"] = "all"
    states: tuple[SagaState, ...] | None = None
    user: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] | None = None
    """Part of why it is stuck; where it is not stuck, of its outcome's reason."""
    older_than_s: Annotated[float, Field(ge=0, le=3_153_600_000)] = 0.0
    stuck_before: Timestamp | None = None
    """Where stuck orders are looked for: those that are since this millisecond or longer."""
    newest_first: bool = True
    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    cursor: Annotated[str, Field(pattern=r"^-?[0-9]{1,18}:[A-Za-z0-9._-]{0,64}$")] | None = None
    """As the search before answered it: microseconds since 1970 and an order id."""

    def after(self) -> tuple[datetime, str] | None:
        """Where the cursor stands. Raises OverflowError beyond all times."""
        if self.cursor is None:
            return None
        moment, _, order_id = self.cursor.partition(":")
        return _EPOCH + int(moment) * _MICROSECOND, order_id


class SearchApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool) -> None:
        """Read through `pool`."""
        self._pool = pool

    def routes(self) -> list[Route]:
        """What the admin port serves for searches."""
        return [
            Route("/search", self.search),
            Route("/search/stuck-groups", self.groups),
        ]

    async def search(self, request: Request) -> Response:
        """Orders, a page at a time, with counts of all that match where those are few."""
        return await self._answer(request, self._page)

    async def groups(self, request: Request) -> Response:
        """Stuck orders by why they are, the most first."""
        return await self._answer(request, self._groups)

    async def _answer(self, request: Request, read: Any) -> Response:
        try:
            search = _search_of(request)
        except (ValidationError, OverflowError) as error:
            detail = (
                faults(error)
                if isinstance(error, ValidationError)
                else "the cursor is beyond all times"
            )
            return json_problem(400, "Invalid search", detail)
        try:
            return JSONResponse(await in_time(self._bounded(search, read)))
        except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
            return json_problem(
                503,
                "Search given up",
                f"it takes longer than {SEARCH_MS / 1_000:g} s; narrow it with states that are"
                " under way, or ask again once the database has less to do",
                reason="search_too_dear",
            )

    async def _bounded(self, search: Search, read: Any) -> dict[str, Any]:
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await searches.limit_search.run(connection, timeout_ms=str(SEARCH_MS))
            now: datetime = await queries.database_time.value(connection)
            document: dict[str, Any] = await read(
                connection, search, now - timedelta(seconds=search.older_than_s)
            )
            return document

    async def _groups(
        self, connection: Connection, search: Search, before: datetime
    ) -> dict[str, Any]:
        rows = await searches.group_stuck.rows(
            connection, groups=GROUPS_AT_MOST + 1, accepted_before=before,
            stuck_before=search.stuck_before, **_filters(search),
        )  # fmt: skip
        groups = [
            {
                "state": row["state"],
                "why": row["why"],
                "steps": row["steps"],
                "orders": row["orders"],
                "since": time_text(row["since"]),
                "until": time_text(row["until"]),
                "example": row["example"],
            }
            for row in rows[:GROUPS_AT_MOST]
        ]
        return {"groups": groups, "more": len(rows) > GROUPS_AT_MOST}

    async def _page(
        self, connection: Connection, search: Search, before: datetime
    ) -> dict[str, Any]:
        if search.scope == "all":
            return await self._walk(connection, search, before)
        after = search.after() or (datetime.min.replace(tzinfo=UTC), "")
        direction = 1
        if search.newest_first:
            direction = -1
            after = search.after() or (datetime.max.replace(tzinfo=UTC), "")
        query, where = searches.search_under_way, _filters(search)
        if search.scope == "stuck":
            query = searches.search_stuck
            where["stuck_before"] = search.stuck_before
        rows = await query.rows(
            connection, direction=direction, after_at=after[0], after_id=after[1],
            accepted_before=before, orders=search.limit, **where,
        )  # fmt: skip
        counts = await searches.count_under_way.rows(
            connection, groups=GROUPS_AT_MOST, accepted_before=before,
            **{"stuck_before": None} | where,
        )  # fmt: skip
        return {
            "orders": [_order(row) for row in rows],
            "next": _cursor(rows[-1]) if len(rows) == search.limit else None,
            "counts": [
                {"state": row["state"], "why": row["why"], "orders": row["orders"]}
                for row in counts
                if row["stuck"] or search.scope != "stuck"
            ],
        }

    async def _walk(
        self, connection: Connection, search: Search, before: datetime
    ) -> dict[str, Any]:
        """The next orders by age: as many as are asked for, of as many as may be looked at."""
        if search.newest_first:
            find, find_end = searches.search_newest, searches.end_of_newest
            after_at, after_id = search.after() or (before, "~")  # behind every id
            where: dict[str, Any] = {"after_at": min(after_at, before), "after_id": after_id}
        else:
            find, find_end = searches.search_oldest, searches.end_of_oldest
            after_at, after_id = search.after() or (_EPOCH, "")
            where = {"after_at": after_at, "after_id": after_id, "accepted_before": before}
        rows = await find.rows(
            connection, looked_at=LOOKED_AT, orders=search.limit, **where, **_filters(search)
        )
        last = rows[-1] if len(rows) == search.limit else None
        if last is None:
            last = await find_end.row(connection, looked_at=LOOKED_AT, **where)
        return {
            "orders": [_order(row) for row in rows],
            "next": _cursor(last) if last else None,
            "lookedTo": time_text(last["accepted_at"]) if last else None,
            "counts": None,
        }


def _search_of(request: Request) -> Search:
    """Raises ValidationError and OverflowError."""
    given: dict[str, Any] = dict(request.query_params)
    if "states" in given:
        given["states"] = given["states"].split(",")
    search = Search.model_validate(given)
    search.after()
    return search


def _filters(search: Search) -> dict[str, Any]:
    states = search.states
    if states is None and search.scope == "under_way":
        states = tuple(state for state in SagaState if state not in ENDED)
    return {
        "states": None if states is None else [state.value for state in states],
        "user_id": search.user,
        "reason": search.reason,
    }


def _order(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "orderId": row["order_id"],
        "userId": row["user_id"] or None,
        "state": row["state"],
        "reason": row["reason"],
        "why": row["stuck_why"],
        "since": time_text(row["stuck_since"]),
        "acceptedAt": time_text(row["accepted_at"]),
        "toldAt": time_text(row["told_at"]),
    }


def _cursor(row: asyncpg.Record) -> str:
    moment = row.get("moment") or row["accepted_at"]
    return f"{(moment - _EPOCH) // _MICROSECOND}:{row['order_id']}"
