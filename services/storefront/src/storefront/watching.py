"""What streams tell: the levels of products, and the progress of an order."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared.contracts.base import Id, Record
from shared.contracts.order_document import document_of
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import StockLevel
from storefront.documents import json_bytes
from storefront.domain import OUTCOMES
from storefront.feed import newer
from storefront.problems import invalid, unavailable
from storefront.shelf import Loaded, Shelf
from storefront.streams import HEARTBEAT, HEARTBEAT_S, event_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping

    from storefront.asking import Desk
    from storefront.feed import Feed, Watch
    from storefront.listening import Ear, Listeners
    from storefront.peers import Peer

NAMED_AT_MOST: Final = 50
"""Products of one stream."""
ALL_AT_MOST: Final = 5_000
"""Products that there may be, for a stream of all."""
SNAPSHOTS_KEPT: Final = 200
SNAPSHOT_S: Final = 60.0
"""Levels of a snapshot are mended by the feed, so that those who come together share one."""


class StoredLevels(Record):
    """A page of levels as stock answers it."""

    levels: tuple[StockLevel, ...]
    next: Id | None


class Snapshot(NamedTuple):
    """Levels as stock had them."""

    levels: Mapping[str, StockLevel]
    is_whole: bool
    """Whether that is all that was asked for."""


class LevelsTold:
    """Tells levels: as they are at first, and then whatever moves."""

    def __init__(self, feed: Feed, stock: Peer) -> None:
        self._feed = feed
        self._stock = stock
        self._snapshots: Shelf[tuple[str, ...], Snapshot] = Shelf(
            "levels", self._load, lambda _: feed.forgot_nothing_since_s(),
            at_most=SNAPSHOTS_KEPT, hot_s=SNAPSHOT_S,
        )  # fmt: skip
        self._events: dict[str, tuple[int, bytes]] = {}

    async def events(self, product_ids: tuple[str, ...]) -> AsyncGenerator[bytes]:
        """Events `level` of these products, sorted by id; of all where none is named. Raises
        ProblemError before the first."""
        with self._feed.watch(product_ids or None) as watch:
            shown = await self._snapshots.get(product_ids, SNAPSHOT_S)
            if shown.over_s and shown.over_s == shown.age_s:  # nothing mends it any more
                raise unavailable("stock does not answer; try again", reason="stock_away")
            levels, is_whole = shown.value
            if not is_whole:
                raise invalid(f"productId: there are more than {ALL_AT_MOST} products; name some")
            told: dict[str, int] = {}
            yield self._news(levels, told, levels) or HEARTBEAT
            while True:
                moved: Iterable[str] | None = await _in_time(watch)
                news = self._news(moved or (), told, levels)
                if news or moved is None:
                    yield news or HEARTBEAT

    def _news(
        self, moved: Iterable[str], told: dict[str, int], snapshot: Mapping[str, StockLevel]
    ) -> bytes:
        """The events of what moved, joined."""
        news = []
        for product_id in moved:
            level = self._feed.level(product_id)
            if (first := snapshot.get(product_id)) is not None:
                level = newer(first, level)
            if level is not None and level.version > told.get(product_id, 0):
                told[product_id] = level.version
                news.append(self._event(level))
        return b"".join(news)

    def _event(self, level: StockLevel) -> bytes:
        """Drawn once for all who watch."""
        version, event = self._events.get(level.product_id, (0, b""))
        if version != level.version:
            event = event_of("level", level.level_id, level.to_bytes())
            if len(self._events) >= ALL_AT_MOST:
                self._events.clear()
            self._events[level.product_id] = level.version, event
        return event

    async def _load(self, product_ids: tuple[str, ...], age_s: float) -> Loaded[Snapshot]:
        began_s = time.monotonic()
        asked = [("id", each) for each in product_ids] or [("limit", str(ALL_AT_MOST))]
        status, body = await self._stock.get("/levels", asked)
        if status != HTTPStatus.OK:
            raise unavailable("stock can't answer now; try again", reason="stock_away")
        page = StoredLevels.model_validate_json(body)
        levels = {level.product_id: level for level in page.levels}
        return Loaded(Snapshot(levels, page.next is None), began_s, SNAPSHOT_S)


class OrderTold:
    """Tells how an order goes on."""

    def __init__(self, heard: Listeners, desk: Desk) -> None:
        self._heard = heard
        self._desk = desk

    async def events(self, order_id: str, user_id: str | None, known: int) -> AsyncGenerator[bytes]:
        """Events `order` of the user's order, from the first whose version is above `known`, to
        its outcome. Raises ProblemError before the first."""
        with self._heard.listen(order_id, order_id) as ear:
            order = await self._desk.show(order_id, user_id)
            told = known
            if order.version <= known and order.status not in OUTCOMES:
                yield HEARTBEAT
            while True:
                if order.version > told:
                    told = order.version
                    yield event_of("order", str(told), json_bytes(order))
                if order.status in OUTCOMES:
                    return
                while (event := await _in_time(ear)) is None or isinstance(event, CommandRefused):
                    if event is None:
                        yield HEARTBEAT
                order = document_of(event)


async def _in_time(source: Watch | Ear) -> Any:
    """What comes next; None where nothing does for too long."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            return await source.next()
    except TimeoutError:
        return None
