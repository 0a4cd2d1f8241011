"""Routes of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from storefront.describing import HTTP_JSON, described
from storefront.documents import CatalogueDocument

if TYPE_CHECKING:
    from storefront.catalogue import Catalogue


class CatalogueApi:
    """What users see of products."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["catalogue"])
        router.get("/api/products", **described(CatalogueDocument))(self.page)
        return router

    async def page(self, request: Request) -> Response:
        """A page of products."""
        body = await self._catalogue.page(request.query_params.get("after", ""), 20)
        return Response(body, media_type=HTTP_JSON)
