"""Stock's own port: the levels as they are now, a page at a time, what is known of a product, and
which strategy it should have.

A level here is what the feed `stock.levels.v1` would say at that moment. Whoever joins the feed
takes all pages once and keeps the highest version of each product, as the service's README tells.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.admin import faults, in_time, json_problem
from shared.contracts.explaining import shorten
from shared.contracts.ids import ID_PATTERN, is_id
from stock.advice import WINDOW_S, advise
from stock.levels import level_of, queries
from stock.store import Store
from stock.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg
    from starlette.requests import Request

    from shared.database import Pool
    from stock.records import Product

LEVELS_AT_MOST: Final = 5_000
"""Of one page."""
PRODUCTS_AT_MOST: Final = 500
"""Of one page of the catalogue, or named at once, of levels as well."""


class Page(BaseModel):
    """Which levels are asked for."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    """The product behind which the page begins: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=LEVELS_AT_MOST)] = 1_000
    low: bool = False
    """Only products with `LOW_STOCK_UNITS` available or fewer."""


class CataloguePage(BaseModel):
    """Which products are asked for."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    """The product behind which the page begins: `next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=PRODUCTS_AT_MOST)] = 100


class LevelsApi:
    """Routes for the admin port."""

    def __init__(self, pool: Pool, *, low_stock_units: int) -> None:
        """Read through `pool`; a product is low with `low_stock_units` available or fewer."""
        self._pool = pool
        self._low_stock_units = low_stock_units

    def routes(self) -> list[Route]:
        """What the admin port serves beside health and metrics."""
        return [
            Route("/levels", self.levels),
            Route("/levels/{product_id}", self.level),
            Route("/products", self.products),
            Route("/products/{product_id}", self.product),
            Route("/advice", self.advice),
        ]

    async def levels(self, request: Request) -> Response:
        """A page of levels in key order, and behind which product the next one begins; or those of
        the products named by `id`, which are there."""
        if ids := request.query_params.getlist("id"):
            return _misnamed(ids) or self._levels(await in_time(self._read_levels(ids)), None)
        try:
            page = Page.model_validate(dict(request.query_params))
        except ValidationError as error:
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid page", faults(error))
        rows = await in_time(self._read_page(page))
        return self._levels(rows, rows[-1]["product_id"] if len(rows) == page.limit else None)

    async def level(self, request: Request) -> Response:
        """The level of one product."""
        product_id = request.path_params["product_id"]
        rows = await in_time(self._read_levels([product_id])) if is_id(product_id) else ()
        return JSONResponse(_level(rows[0])) if rows else _unknown(product_id)

    async def products(self, request: Request) -> Response:
        """A page of the catalogue in key order; or the products named by `id`, which are there."""
        if ids := request.query_params.getlist("id"):
            return _misnamed(ids) or _catalogue(await in_time(self._read_named(ids)), None)
        try:
            page = CataloguePage.model_validate(dict(request.query_params))
        except ValidationError as error:
            return json_problem(HTTPStatus.BAD_REQUEST, "Invalid page", faults(error))
        rows = await in_time(self._read_catalogue(page))
        return _catalogue(rows, rows[-1]["product_id"] if len(rows) == page.limit else None)

    async def product(self, request: Request) -> Response:
        """One product: what the catalogue says, how it is decided on, and its counters."""
        product_id = request.path_params["product_id"]
        row = await in_time(self._read_product(product_id)) if is_id(product_id) else None
        return _unknown(product_id) if row is None else JSONResponse(self._document(row))

    async def advice(self, request: Request) -> Response:
        """Which strategy contended products should have, the most contended first."""
        advised = await in_time(self._advise())
        return JSONResponse({"windowS": WINDOW_S, "products": [_advice(*one) for one in advised]})

    def _levels(self, rows: Sequence[asyncpg.Record], following: str | None) -> Response:
        return JSONResponse(
            {
                "levels": [_level(row) for row in rows],
                "next": following,
                "lowStockUnits": self._low_stock_units,
            }
        )

    def _document(self, row: asyncpg.Record) -> dict[str, Any]:
        return {
            "productId": row["product_id"],
            "name": row["name"],
            "price": row["price"],
            "currency": row["currency"],
            "strategy": row["strategy"],
            "activeStrategy": row["active"],
            "whenRedisDown": row["when_redis_down"],
            "maxPerOrder": row["max_per_order"],
            "available": row["available"],
            "reserved": row["reserved"],
            "sold": row["sold"],
            "received": row["received"],
            "version": row["version"],
            "lowStockUnits": self._low_stock_units,
        }

    async def _read_page(self, page: Page) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.page_of_levels.rows(
                connection,
                after=page.after or "",
                products=page.limit,
                available_at_most=self._low_stock_units if page.low else None,
            )

    async def _read_catalogue(self, page: CataloguePage) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.page_of_products.rows(
                connection, after=page.after or "", products=page.limit
            )

    async def _read_named(self, ids: Sequence[str]) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.products_named.rows(connection, product_ids=ids)

    async def _read_levels(self, ids: Sequence[str]) -> Sequence[asyncpg.Record]:
        async with self._pool.acquire() as connection:
            return await queries.read_levels.rows(connection, product_ids=ids)

    async def _read_product(self, product_id: str) -> asyncpg.Record | None:
        async with self._pool.acquire() as connection:
            return await queries.show_product.row(connection, product_id=product_id)

    async def _advise(self) -> list[tuple[Product, Tally]]:
        async with self._pool.acquire() as connection:
            store = Store(connection)
            measured = await store.contention(WINDOW_S)
            found = [*await store.read_products(measured), *await store.auto_products(measured)]
        products = {product.product_id: product for product in found}
        told = [(one, measured.get(one.product_id, Tally())) for one in products.values()]
        return sorted(told, key=lambda one: one[1][1:], reverse=True)


def _advice(product: Product, measured: Tally) -> dict[str, Any]:
    strategy, why = advise(measured, product.active)
    return {
        "productId": product.product_id,
        "strategy": product.strategy,
        "activeStrategy": product.active,
        "advised": strategy,
        "why": why,
        "commands": measured.commands,
        "conflicts": measured.conflicts,
        "refusals": measured.refusals,
        "lockWaitMs": round(measured.lock_wait_ms, 1),
    }


def _misnamed(ids: Sequence[str]) -> Response | None:
    if len(ids) <= PRODUCTS_AT_MOST and all(map(is_id, ids)):
        return None
    detail = f"id: 1 to {PRODUCTS_AT_MOST} product ids"
    return json_problem(HTTPStatus.BAD_REQUEST, "Invalid request", detail)


def _catalogue(rows: Sequence[asyncpg.Record], following: str | None) -> Response:
    products = [
        {
            "productId": row["product_id"],
            "name": row["name"],
            "price": row["price"],
            "currency": row["currency"],
            "available": row["available"],
            "version": row["version"],
        }
        for row in rows
    ]
    return JSONResponse({"products": products, "next": following})


def _level(row: asyncpg.Record) -> dict[str, Any]:
    return level_of(row).model_dump(mode="json", by_alias=True)


def _unknown(product_id: str) -> Response:
    detail = (
        f"there is no product {product_id}"
        if is_id(product_id)
        else f"{shorten(product_id)} is no product id: 1 to 64 of A-Z a-z 0-9 . _ -"
    )
    return json_problem(HTTPStatus.NOT_FOUND, "Unknown product", detail)
