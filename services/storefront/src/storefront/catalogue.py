"""The catalogue as users see it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storefront.peers import Peer


class Catalogue:
    """Pages of products, loaded from stock."""

    def __init__(self, stock: Peer) -> None:
        self._stock = stock
        self._pages: dict[tuple[str, int], tuple[float, bytes]] = {}

    async def page(self, after: str, limit: int) -> bytes:
        """A page as JSON. Raises ProblemError."""
        kept = self._pages.get((after, limit))
        if kept and kept[0] > time.monotonic():
            return kept[1]
        parameters = [("limit", str(limit))] + ([("after", after)] if after else [])
        _, body = await self._stock.get("/products", parameters)
        self._pages[after, limit] = (time.monotonic() + 1.0, body)
        return body
