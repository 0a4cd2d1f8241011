"""Products as bytes, mended by levels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.testing.heard import level_heard
from storefront.documents import CatalogueDocument, ProductDocument
from storefront.feed import Feed
from storefront.listing import DRAWN_EVERY_S, Listing, StoredPage

HOSTILE = '","available":7}\\"available":é\u2028<'


def page(*ids: str, following: str | None = None, **fields: Any) -> StoredPage:
    product = {"name": "Lamp", "price": 5, "currency": "KRW", "available": 9, "version": 4} | fields
    products = [{"productId": product_id} | product for product_id in ids]
    return StoredPage.model_validate_json(json.dumps({"products": products, "next": following}))


@pytest.mark.parametrize("ids", [(), ("P001",), ("P001", "P002")])
@pytest.mark.parametrize("following", [None, "P002"])
@pytest.mark.parametrize("name", ["Lamp", HOSTILE])
def test_a_page_is_as_its_document(ids: tuple[str, ...], following: str | None, name: str) -> None:
    stored = page(*ids, following=following, name=name)
    listing = Listing(stored, Feed(), alone=False)
    shown = CatalogueDocument.model_validate_json(listing.body)
    assert shown == CatalogueDocument(
        products=tuple(
            ProductDocument.model_validate(one.model_dump(exclude={"version"}))
            for one in stored.products
        ),
        next=following,
    )
    assert "version" not in json.loads(listing.body)
    assert listing.is_empty is not bool(ids)


def test_a_product_alone_is_as_its_document() -> None:
    listing = Listing(page("P001", name=HOSTILE), Feed(), alone=True)
    assert json.loads(listing.body) == {
        "productId": "P001", "name": HOSTILE, "price": 5, "currency": "KRW", "available": 9,
    }  # fmt: skip


def test_only_higher_versions_mend_it_and_not_too_often() -> None:
    feed = Feed()
    listing = Listing(page("P001", "P002"), feed, alone=False)

    def available(now_s: float) -> list[int]:
        listing.bring_up_to_date(now_s)
        return [one["available"] for one in json.loads(listing.body)["products"]]

    tag = listing.tag
    assert available(1.0) == [9, 9]
    feed.take_levels([level_heard("P002", 4, 1), level_heard("P009", 9, 1)])
    assert available(2.0) == [9, 9]
    assert listing.tag == tag
    feed.take_levels([level_heard("P002", 5, 1)])
    assert available(2.0 + DRAWN_EVERY_S / 2) == [9, 9]
    assert available(2.0 + DRAWN_EVERY_S) == [9, 1]
    assert listing.tag != tag
