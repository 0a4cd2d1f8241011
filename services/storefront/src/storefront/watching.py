"""What streams tell: the levels of products, and the progress of an order."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shared.contracts.base import Id, Record
from shared.contracts.order_document import document_of
from shared.contracts.refusals import CommandRefused
from shared.contracts.stock import StockLevel
from storefront.documents import json_bytes
from storefront.domain import OUTCOMES
from storefront.feed import newer
from storefront.metrics import TURNED_AWAY
from storefront.problems import ProblemError, invalid, unavailable
from storefront.shelf import Loaded, Shelf
from storefront.streams import HEARTBEAT, HEARTBEAT_S, event_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence

    from storefront.asking import Desk
    from storefront.feed import Feed, Watch
    from storefront.listening import Ear, Listeners
    from storefront.peers import Peer

NAMED_AT_MOST: Final = 50
"""Products of one stream."""
ALL_AT_MOST: Final = 5_000
"""Products that there may be, for a stream of all."""
STREAMS_OF_ALL_AT_MOST: Final = 100
"""Streams of all products: each is told whatever moves."""
TELL_EVERY_S: Final = 0.1
"""A stream of levels is written to no more often; what moves meanwhile is told together."""
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
        self._streams_of_all = 0

    async def events(self, product_ids: tuple[str, ...]) -> AsyncGenerator[bytes]:
        """Events `level` of these products, sorted by id; of all where none is named. Raises
        ProblemError before the first."""
        with self._place(product_ids), self._feed.watch(product_ids or None) as watch:
            told: dict[str, int] = {}
            # what is told at first is large, and not kept for the life of the stream
            yield self._first_news(await self._snapshot(product_ids), told) or HEARTBEAT
            while True:
                await _pause(TELL_EVERY_S)
                moved: Iterable[str] | None = await _in_time(watch)
                while not (news := self._news(moved or (), told)) and moved is not None:
                    moved = await _in_time(watch)
                yield news or HEARTBEAT
                del news

    @contextmanager
    def _place(self, product_ids: tuple[str, ...]) -> Iterator[None]:
        """Room for a stream. Raises ProblemError."""
        if product_ids:
            yield
            return
        if self._streams_of_all >= STREAMS_OF_ALL_AT_MOST:
            TURNED_AWAY.labels("streams").inc()
            raise unavailable(
                f"{STREAMS_OF_ALL_AT_MOST} streams of all products are open already; name some, or"
                " try again",
                reason="overloaded",
            )
        self._streams_of_all += 1
        try:
            yield
        finally:
            self._streams_of_all -= 1

    async def _snapshot(self, product_ids: tuple[str, ...]) -> Mapping[str, StockLevel]:
        shown = await self._snapshots.get(product_ids, SNAPSHOT_S)
        if shown.over_s and shown.over_s == shown.age_s:  # nothing mends it any more
            raise unavailable("stock does not answer; try again", reason="stock_away")
        if not shown.value.is_whole:
            raise invalid(f"productId: there are more than {ALL_AT_MOST} products; name some")
        return shown.value.levels

    def _first_news(self, snapshot: Mapping[str, StockLevel], told: dict[str, int]) -> bytes:
        """The events of a snapshot, mended by what was heard since, joined."""
        levels = [newer(one, self._feed.level(name)) for name, one in snapshot.items()]
        told.update((level.product_id, level.version) for level in levels)
        return b"".join(map(self._event, levels))

    def _news(self, moved: Iterable[str], told: dict[str, int]) -> bytes:
        """The events of what moved, joined."""
        news = []
        for product_id in moved:
            level = self._feed.level(product_id)
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
        page = await self._page(asked)
        levels = {level.product_id: level for level in page.levels}
        is_whole = page.next is None
        if page.next is not None:  # the page is full, which may be all
            is_whole = not (await self._page([("after", page.next), ("limit", "1")])).levels
        return Loaded(Snapshot(levels, is_whole), began_s, SNAPSHOT_S)

    async def _page(self, asked: Sequence[tuple[str, str]]) -> StoredLevels:
        return await self._stock.read("/levels", asked, StoredLevels.model_validate_json)


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
                while isinstance(event := await _in_time(ear), CommandRefused):
                    pass
                if event is not None:
                    order = document_of(event)
                    continue
                yield HEARTBEAT
                try:  # what it waits for may have been missed
                    order = await self._desk.show(order_id, user_id)
                except ProblemError:
                    continue


async def _pause(for_s: float) -> None:
    await asyncio.sleep(for_s)


async def _in_time(source: Watch | Ear) -> Any:
    """What comes next; None where nothing does for too long."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            return await source.next()
    except TimeoutError:
        return None
