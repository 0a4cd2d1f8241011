"""Routes of the catalogue."""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.datastructures import QueryParams
from starlette.responses import Response

from shared.contracts.ids import is_id
from storefront.describing import HTTP_JSON, ID_SCHEMA, in_query
from storefront.documents import CatalogueDocument, ProductDocument
from storefront.endpoint import Says, route
from storefront.problems import invalid, unknown

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from storefront.catalogue import Catalogue
    from storefront.listing import Listing
    from storefront.shelf import Shown

PAGE_AT_MOST: Final = 100
PAGE: Final = 20
"""Products of a page where nothing is said."""
QUERIES_REMEMBERED: Final = 1_000
QUERY_BYTES_REMEMBERED: Final = 128
"""Longer ones are read each time: they are nobody's `next`, and would fill the memory."""

_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_LIMIT: Final = in_query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": PAGE_AT_MOST, "default": PAGE},
    "How many products at most",
)
_AFTER: Final = in_query("after", ID_SCHEMA, "`next` of the page before")


class CatalogueApi:
    """What users see of products."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            route("GET", "/api/products", self.page,
                  Says("catalogue", CatalogueDocument, (304,), parameters=(_LIMIT, _AFTER))),
            route("GET", "/api/products/{product_id}", self.show,
                  Says("catalogue", ProductDocument, (304, 404))),
        ]  # fmt: skip

    async def page(self, request: Request) -> Response:
        """A page of products in the order of their ids."""
        query: bytes = request.scope["query_string"]
        remembers = len(query) <= QUERY_BYTES_REMEMBERED
        after, limit = _remembered_page(query) if remembers else _page(query)
        return _response(await self._catalogue.page(after, limit), request)

    async def show(self, request: Request) -> Response:
        """A product, with the units that are available now."""
        product_id: str = request.path_params["product_id"]
        if not is_id(product_id):
            raise unknown("such product")
        return _response(await self._catalogue.product(product_id), request)


def _page(query: bytes) -> tuple[str, int]:
    """`after` and `limit`. Raises ProblemError."""
    asked = QueryParams(query)
    after, limit = asked.get("after", ""), asked.get("limit", str(PAGE))
    if "after" in asked and not is_id(after):
        raise invalid("after: 1 to 64 of A-Z a-z 0-9 . _ -")
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= PAGE_AT_MOST:
        raise invalid(f"limit: a number from 1 to {PAGE_AT_MOST}")
    return after, int(limit)


_remembered_page: Final = lru_cache(QUERIES_REMEMBERED)(_page)


def _response(shown: Shown[Listing], request: Request) -> Response:
    listing = shown.value
    headers = {"etag": listing.tag, "cache-control": "no-cache"}
    if shown.over_s > 0:  # RFC 9111 and RFC 9211
        headers["age"] = str(int(shown.age_s))
        headers["cache-status"] = f"storefront; hit; ttl=-{max(1, int(shown.over_s))}"
    if listing.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(listing.body, headers=headers, media_type=HTTP_JSON)
