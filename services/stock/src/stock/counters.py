"""The counters of hot products, in Redis or Valkey: what a crowd is admitted by.

A counter holds what its row in Postgres has available, less what was admitted and isn't committed
yet. It can be lost, or be wrong, at any moment, and costs nothing but a refusal then: the verdict
is taken on the row. What each script does stands at its head, in `lua/`.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SlowError

from stock.records import Fence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from redis.commands.core import AsyncScript

_T = TypeVar("_T")

ANSWER_WITHIN_S = 0.25
RETRIES = 3
"""Asked again under the same ids, so that a reply that was lost changes nothing."""
ALL_WITHIN_S = 1.0
MEMORY_S = 3_600
"""How long an admission is remembered: longer than any command stays unread while all is well.
What is forgotten sooner is found by the reconciler."""


class CountersAwayError(Exception):
    """Redis doesn't answer, or refuses to: out of memory, read-only, loading."""


class Take(NamedTuple):
    """What one order asks for of hot products: quantities by product id."""

    command_id: str
    lines: tuple[tuple[str, int], ...]


class Answer(NamedTuple):
    """Exactly one of the first three holds where nothing is closed."""

    admitted: bool = False
    before: bool = False
    """It was admitted when it was asked for the first time."""
    short: tuple[tuple[str, int], ...] = ()
    """Products of which too little is left, and how much that is."""
    closed: tuple[str, ...] = ()
    """Products whose counter isn't there, or was written under another fence or server."""


class Move(NamedTuple):
    """Units that Postgres has moved: released or received above 0, written off below."""

    command_id: str
    product_id: str
    fence: Fence
    units: int


class Level(NamedTuple):
    """What a counter says."""

    left: int
    fence: Fence
    changes: int
    """Rises with each change: a counter that stands still is told from one that came back."""


class HotCounters:
    """The scripts, as typed calls. All raise `CountersAwayError`, within `ALL_WITHIN_S`."""

    def __init__(self, url: str) -> None:
        """Connects when it is first used, and again after each loss."""
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            retry=Retry(
                ExponentialBackoff(cap=0.1, base=0.01),
                RETRIES,
                supported_errors=(LostError, SlowError),
            ),
        )
        self._admit = self._script("admit")
        self._take_back = self._script("take_back")
        self._move = self._script("move")
        self._write = self._script("write")
        self._read = self._script("read")

    async def admit(self, takes: Sequence[Take], fences: Mapping[str, Fence]) -> list[Answer]:
        """Admit orders, in their order, by the counters under these fences."""
        places = {product_id: place for place, product_id in enumerate(fences, 1)}
        products = list(fences)
        arguments: list[Any] = [len(products), MEMORY_S]
        for fence in fences.values():
            arguments += fence
        for take in takes:
            arguments.append(len(take.lines))
            for product_id, quantity in take.lines:
                arguments += (places[product_id], quantity)
        keys = [_counter(one) for one in products] + [_memory(one.command_id) for one in takes]
        answers = await self._answer(self._admit(keys=keys, args=arguments))
        return [_read_answer(answer, products) for answer in answers]

    async def take_back(self, take: Take, fences: Mapping[str, Fence]) -> None:
        """Give back what `take` was admitted for under these fences, if it is remembered."""
        arguments: list[int] = []
        for product_id, quantity in take.lines:
            arguments += (*fences[product_id], quantity)
        keys = [_memory(take.command_id), *(_counter(product_id) for product_id, _ in take.lines)]
        await self._answer(self._take_back(keys=keys, args=arguments))

    async def move(self, move: Move) -> None:
        """Follow what Postgres moved, once."""
        keys = [_memory(f"{move.command_id}:{move.product_id}"), _counter(move.product_id)]
        await self._answer(self._move(keys=keys, args=[*move.fence, move.units, MEMORY_S]))

    async def write(self, levels: Sequence[tuple[str, Fence, int]]) -> None:
        """Write counters anew: product id, fence, what is left."""
        arguments: list[int] = []
        for _, fence, left in levels:
            arguments += (*fence, left)
        keys = [_counter(product_id) for product_id, _, _ in levels]
        await self._answer(self._write(keys=keys, args=arguments))

    async def read(self, product_ids: Sequence[str]) -> list[Level | None]:
        """What the counters say; None where there is none of this server."""
        found = await self._answer(self._read(keys=[_counter(one) for one in product_ids]))
        return [Level(one[0], Fence(one[1], one[2]), one[3]) if one else None for one in found]

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    def _script(self, name: str) -> AsyncScript:
        # loads itself again where the server has forgotten it
        return self._redis.register_script((files("stock") / f"lua/{name}.lua").read_text("utf-8"))

    async def _answer(self, asked: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(ALL_WITHIN_S):
                return await asked
        except (RedisError, OSError) as error:
            raise CountersAwayError(f"{type(error).__name__}: {error}") from error


def _counter(product_id: str) -> str:
    # the braces keep all keys of a script on one node of a cluster
    return f"{{stock}}:{product_id}"


def _memory(command_id: str) -> str:
    return f"{{stock}}:did:{command_id}"


def _read_answer(answer: Sequence[int], products: Sequence[str]) -> Answer:
    verdict, *rest = answer
    if verdict < 0:
        return Answer(closed=tuple(products[place - 1] for place in rest))
    if verdict == 0:
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return Answer(short=tuple((products[place - 1], left) for place, left in pairs))
    return Answer(admitted=True, before=verdict == 2)
