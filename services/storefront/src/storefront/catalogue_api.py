"""Routes of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from storefront.describing import HTTP_JSON
from storefront.documents import CatalogueDocument
from storefront.endpoint import Says, route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from storefront.catalogue import Catalogue


class CatalogueApi:
    """What users see of products."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        """What is served."""
        return [route("GET", "/api/products", self.page, Says("catalogue", CatalogueDocument))]

    async def page(self, request: Request) -> Response:
        """A page of products."""
        body = await self._catalogue.page(request.query_params.get("after", ""), 20)
        return Response(body, media_type=HTTP_JSON)
