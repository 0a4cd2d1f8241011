"""The catalogue as users see it: what stock says of products, cached here and in Redis, and mended
by what is heard.

What is available is never older than the feed: levels mend what is shown. A product that is put
outdates what began loading before. Without Redis each process loads for itself; without stock
what is kept is shown, and says so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from storefront.common import Common
from storefront.latest import Latest
from storefront.listing import Listing, StoredPage
from storefront.problems import unavailable, unknown
from storefront.shelf import Loaded, Shelf, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.redis import Batched
    from storefront.feed import Feed
    from storefront.peers import Peer

PRODUCTS_KEPT: Final = 10_000
PAGES_KEPT: Final = 200
"""In the process: a page of 100 products takes 50 KB."""
UNKNOWN_KEPT_S: Final = 10.0
"""That there is no such product; a put ends it at once."""
STRANGE_PAGE_KEPT_S: Final = 10.0
"""In the process alone: a page behind a product that no page here gave as its `next`. Whoever makes
`after` up fills no Redis."""
NEXTS_REMEMBERED: Final = 10_000
"""Pairs of `after` and `limit`, those that were given last."""


class Catalogue:
    """Products and pages of them."""

    def __init__(
        self,
        stock: Peer,
        redis: Batched,
        feed: Feed,
        *,
        keep_s: float,
        hot_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What was loaded lives `keep_s`, and what is asked for often `hot_s`."""
        self._stock = stock
        self._feed = feed
        self._keep_s = keep_s
        self._clock = clock
        self._nexts: Latest[tuple[str, int], None] = Latest(NEXTS_REMEMBERED)
        self._common_products = Common(
            redis, "product", _page_of, shares=_has_products, keep_s=keep_s, clock=clock
        )
        self._common_pages = Common(
            redis, "page", _page_of, shares=lambda _: True, keep_s=keep_s, clock=clock
        )
        self._products: Shelf[str, Listing] = Shelf(
            "product", self._load_product, feed.current_since_s,
            at_most=PRODUCTS_KEPT, hot_s=hot_s, clock=clock,
        )  # fmt: skip
        self._pages: Shelf[tuple[str, int], Listing] = Shelf(
            "page", self._load_page, lambda _: feed.current_since_s(),
            at_most=PAGES_KEPT, hot_s=hot_s, clock=clock,
        )  # fmt: skip

    async def page(self, after: str, limit: int) -> Shown[Listing]:
        """At most `limit` products in key order, behind `after`. Raises ProblemError."""
        return self._up_to_date(await self._pages.get((after, limit), self._keep_s))

    async def product(self, product_id: str) -> Shown[Listing]:
        """One product. Raises ProblemError."""
        shown = self._up_to_date(await self._products.get(product_id, self._keep_s))
        if shown.value.is_empty:
            if shown.over_s > 0:  # there may be one by now
                raise unavailable("stock does not answer; try again", reason="stock_away")
            raise unknown(f"product {product_id}")
        return shown

    def _up_to_date(self, shown: Shown[Listing]) -> Shown[Listing]:
        shown.value.bring_up_to_date(self._clock())
        return shown

    async def _load_product(self, product_id: str, age_s: float) -> Loaded[Listing]:
        page, began_s = await self._common_products.get(
            product_id,
            lambda: self._ask([("id", product_id)]),
            self._usable_since(age_s, product_id),
        )
        keep_s = self._keep_s if page.products else min(UNKNOWN_KEPT_S, self._keep_s)
        return Loaded(Listing(page, self._feed, alone=True), began_s, keep_s)

    async def _load_page(self, key: tuple[str, int], age_s: float) -> Loaded[Listing]:
        after, limit = key
        asked = [("limit", str(limit)), *([("after", after)] if after else [])]
        shared = not after or key in self._nexts
        page, began_s = await self._common_pages.get(
            f"{limit}:{after}",
            lambda: self._ask(asked),
            self._usable_since(age_s, None),
            shared=shared,
        )
        if shared and page.next is not None:
            self._nexts[page.next, limit] = None
        keep_s = self._keep_s if shared else min(STRANGE_PAGE_KEPT_S, self._keep_s)
        return Loaded(Listing(page, self._feed, alone=False), began_s, keep_s)

    def _usable_since(self, age_s: float, product_id: str | None) -> Callable[[], float]:
        not_before_s = self._clock() - age_s
        return lambda: max(not_before_s, self._feed.current_since_s(product_id))

    async def _ask(self, asked: Sequence[tuple[str, str]]) -> tuple[bytes, StoredPage]:
        return await self._stock.read("/products", asked, lambda body: (body, _page_of(body)))


def _page_of(text: str | bytes) -> StoredPage:
    return StoredPage.model_validate_json(text)


def _has_products(page: StoredPage) -> bool:
    return bool(page.products)
