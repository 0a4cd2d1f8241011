"""What this process has heard of products: their levels, and when they were put.

Each process hears both topics whole, so it can tell by itself what is out of date: whatever was
loaded before a product was put, or before the moment since which it forgot nothing. What is loaded
after that is mended by the levels, of which the highest version counts.

A level is kept as it came and read when somebody wants it: many come, and few are wanted. Which of
two is the newer one tells by a glance.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from shared.contracts.reading import Unreadable, reader_of
from shared.contracts.stock import StockLevel
from shared.contracts.topics import TOPICS
from storefront.metrics import HEARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aiokafka import ConsumerRecord

    Records = Sequence[ConsumerRecord[bytes | None, bytes | None]]

LEVELS: Final = "stock.levels.v1"
EVENTS: Final = "stock.events.v1"
PRODUCTS_REMEMBERED: Final = 20_000
"""Levels, and puts, of the products that were heard of last. Where more move within the life of
what is cached, it is loaded more often."""
NEVER: Final = -math.inf
_PUT: Final = b'"ProductPut"'
_VERSION: Final = re.compile(rb'"version"\s*:\s*([0-9]+)')


class _Heard:
    """The newest record about a product that was not read yet, and the highest level that was."""

    __slots__ = ("at_s", "level", "value")

    def __init__(self) -> None:
        self.at_s = NEVER
        self.value: bytes | None = None
        self.level: StockLevel | None = None


class Watch:
    """What one watcher has yet to look at: each product once, however often it moved."""

    def __init__(self) -> None:
        self._moved: dict[str, None] = {}
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Iterable[str]:
        """The products that moved since the last call, once there is one."""
        while not self._moved:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        moved, self._moved = self._moved, {}
        return moved

    def tell(self, product_id: str) -> None:
        """This product moved."""
        self._moved[product_id] = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Feed:
    """Remembers levels and puts."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        products_remembered: int = PRODUCTS_REMEMBERED,
    ) -> None:
        """`clock` in seconds, monotonic. Nothing counts as heard before `follow`."""
        self._clock = clock
        self._products_remembered = products_remembered
        self._reader = reader_of(TOPICS[LEVELS])
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        self._put_at_s: OrderedDict[str, float] = OrderedDict()
        self._all_since_s = math.inf
        self._last_put_s = NEVER
        self._watches: dict[str, list[Watch]] = {}
        self._watches_of_all: list[Watch] = []
        self.moves = 0
        """Rises with each lot of levels: what was drawn under the same number is up to date."""

    def follow(self) -> None:
        """From now on everything is heard."""
        self._all_since_s = self._clock()

    def current_since_s(self, product_id: str | None = None) -> float:
        """What was loaded from then on is up to date but for the levels: of a product, or of any
        that there may be."""
        put_s = self._last_put_s if product_id is None else self._put_at_s.get(product_id, NEVER)
        return max(self._all_since_s, put_s)

    def forgot_nothing_since_s(self) -> float:
        """What was loaded from then on can be mended by the levels."""
        return self._all_since_s

    def take_levels(self, records: Records) -> None:
        """Levels that came."""
        now_s = self._clock()
        for record in records:
            if record.key is None or record.value is None:
                continue
            product_id = record.key.decode("ascii", "replace")
            heard = self._heard.get(product_id)
            if heard is None:
                heard = self._heard[product_id] = _Heard()
            if heard.value is None or not _is_older(record.value, heard.value):
                heard.value = record.value
            heard.at_s = now_s
            self._heard.move_to_end(product_id)
            for watch in self._watches.get(product_id, ()):
                watch.tell(product_id)
            for watch in self._watches_of_all:
                watch.tell(product_id)
        while len(self._heard) > self._products_remembered:
            self._forgot(self._heard.popitem(last=False)[1].at_s)
        self.moves += 1

    def take_events(self, records: Records) -> None:
        """Events of products that came; one that isn't a put is not even read, and whatever looks
        like a put counts as one."""
        for record in records:
            if record.key is None or record.value is None or _PUT not in record.value:
                continue
            HEARD.labels(EVENTS, "ProductPut").inc()
            product_id = record.key.decode("ascii", "replace")
            self._last_put_s = self._put_at_s[product_id] = self._clock()
            self._put_at_s.move_to_end(product_id)
        while len(self._put_at_s) > self._products_remembered:
            self._forgot(self._put_at_s.popitem(last=False)[1])

    def level(self, product_id: str) -> StockLevel | None:
        """The newest level that was heard of a product; None where none is remembered."""
        heard = self._heard.get(product_id)
        if heard is None:
            return None
        if heard.value is not None:
            read = self._reader.read(heard.value)
            heard.value = None
            if isinstance(read, Unreadable) or not isinstance(read, StockLevel):
                HEARD.labels(LEVELS, "unreadable").inc()
            else:
                HEARD.labels(LEVELS, read.type).inc()
                heard.level = newer(read, heard.level)
        return heard.level

    @contextmanager
    def watch(self, product_ids: Sequence[str] | None) -> Iterator[Watch]:
        """Hear from now on when these products move; None: all."""
        watch = Watch()
        lists = (
            [self._watches_of_all]
            if product_ids is None
            else [self._watches.setdefault(product_id, []) for product_id in set(product_ids)]
        )
        for watches in lists:
            watches.append(watch)
        try:
            yield watch
        finally:
            for watches in lists:
                watches.remove(watch)
            for product_id in product_ids or ():
                if not self._watches.get(product_id, True):
                    del self._watches[product_id]

    def _forgot(self, heard_at_s: float) -> None:
        self._all_since_s = max(self._all_since_s, heard_at_s)


def _is_older(one: bytes, other: bytes) -> bool:
    """Whether a record has a lower version than another, as far as both say one."""
    ours, theirs = _VERSION.search(one), _VERSION.search(other)
    return ours is not None and theirs is not None and int(ours[1]) < int(theirs[1])


def newer(one: StockLevel, other: StockLevel | None) -> StockLevel:
    """The level with the higher version."""
    return one if other is None or one.version > other.version else other
