"""Products as they are shown: bytes that are ready, mended by the levels that were heard since."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from shared.contracts.base import Id, Record, Version
from storefront.documents import ProductDocument, json_bytes
from storefront.feed import NEVER

if TYPE_CHECKING:
    from storefront.feed import Feed

DRAWN_EVERY_S: Final = 0.1
"""What is shown may be so much older than what was heard."""


class StoredProduct(ProductDocument):
    """A product as stock answers it."""

    version: Version


class StoredPage(Record):
    """Some of them; `next` is null at the end."""

    products: tuple[StoredProduct, ...]
    next: Id | None


class Listing:
    """A page of products, or one of them alone."""

    def __init__(self, page: StoredPage, feed: Feed, *, alone: bool) -> None:
        """`alone` is for a page of one product at most."""
        self._feed = feed
        self._ids = [product.product_id for product in page.products]
        self._versions = [product.version for product in page.products]
        self._available = [product.available for product in page.products]
        self._heads = [_head(product) for product in page.products]
        self._tail = b"" if alone else b'],"next":%s}' % json.dumps(page.next).encode()
        self._start = b"" if alone else b'{"products":['
        self._moves = -1
        self._drawn_s = NEVER
        self.body = b""
        self.tag = ""
        """An entity tag (RFC 9110)."""
        self._draw()

    @property
    def is_empty(self) -> bool:
        """Whether there is no product in it."""
        return not self._ids

    def bring_up_to_date(self, now_s: float) -> None:
        """Draw it anew where a level of a product in it was heard, unless that was just done."""
        if self._moves == self._feed.moves or now_s - self._drawn_s < DRAWN_EVERY_S:
            return
        self._moves, self._drawn_s = self._feed.moves, now_s
        moved = False
        for place, product_id in enumerate(self._ids):
            level = self._feed.level(product_id)
            if level is not None and level.version > self._versions[place]:
                self._versions[place] = level.version
                moved = moved or self._available[place] != level.available
                self._available[place] = level.available
        if moved:
            self._draw()

    def _draw(self) -> None:
        products = [b"%s%d}" % drawn for drawn in zip(self._heads, self._available, strict=True)]
        self.body = self._start + b",".join(products) + self._tail
        self.tag = f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"'


def _head(product: StoredProduct) -> bytes:
    """All up to the number that moves, which stands last. In a name the quotes are escaped."""
    head, key, _ = json_bytes(product).partition(b'"available":')
    return head + key
