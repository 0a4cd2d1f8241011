"""The counters of hot products, in Redis or Valkey: what a crowd is admitted by.

A counter holds what its row in Postgres has available, less what was admitted and isn't committed
yet. It can be lost, or be wrong, at any moment, and costs nothing but a refusal then: the verdict
is taken on the row. What each script does stands at its head, in `lua/`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.redis import RETRIES, Scripts
from stock.records import Fence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.contracts.stock import WhenRedisDown

LINES_AT_ONCE = 2_000
"""Of the orders of one call."""
MEMORY_S = 3_600
"""How long an admission is remembered: longer than any command stays unread while all is well.
What is forgotten sooner is found by the reconciler."""


class TakeLine(NamedTuple):
    """A hot line of an order, and what was known of its product when it was asked for."""

    product_id: str
    quantity: int
    fence: Fence
    when_away: WhenRedisDown


class Take(NamedTuple):
    """What one order asks for of hot products."""

    command_id: str
    lines: tuple[TakeLine, ...]

    @property
    def fences(self) -> dict[str, Fence]:
        """By product."""
        return {line.product_id: line.fence for line in self.lines}


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
    """The scripts, as typed calls. All raise `RedisAwayError`. An order asks again under the same
    id, so that a reply that was lost changes nothing."""

    def __init__(self, url: str, *, retries: int = RETRIES) -> None:
        """Connects when it is first used; `retries` as in the settings."""
        names = ("admit", "take_back", "move", "write", "read")
        self._scripts = Scripts(url, "stock", names, retries=retries)

    async def admit(self, takes: Sequence[Take]) -> list[Answer]:
        """Admit orders, in their order, by the counters under the fences of their lines."""
        answers: list[Answer] = []
        for part in _parts(takes):
            fences = {line.product_id: line.fence for take in part for line in take.lines}
            places = {product_id: place for place, product_id in enumerate(fences, 1)}
            products = list(fences)
            arguments: list[Any] = [len(products), MEMORY_S]
            for fence in fences.values():
                arguments += fence
            for take in part:
                arguments.append(len(take.lines))
                for line in take.lines:
                    arguments += (places[line.product_id], line.quantity)
            keys = [*map(_counter, products), *(_memory(take.command_id) for take in part)]
            found = await self._scripts.run("admit", keys, arguments)
            answers += [_read_answer(one, products) for one in found]
        return answers

    async def take_back(self, take: Take) -> None:
        """Give back what `take` was admitted for, if it is remembered."""
        arguments: list[int] = []
        for line in take.lines:
            arguments += (*line.fence, line.quantity)
        keys = [_memory(take.command_id), *(_counter(line.product_id) for line in take.lines)]
        await self._scripts.run("take_back", keys, arguments)

    async def move(self, move: Move) -> None:
        """Follow what Postgres moved, once."""
        keys = [_memory(f"{move.command_id}:{move.product_id}"), _counter(move.product_id)]
        await self._scripts.run("move", keys, [*move.fence, move.units, MEMORY_S])

    async def write(self, levels: Sequence[tuple[str, Fence, int]]) -> None:
        """Write counters anew: product id, fence, what is left."""
        # What is asked twice, as after a lost reply, must not write over what came in between.
        arguments: list[Any] = [secrets.token_hex(8)]
        for _, fence, left in levels:
            arguments += (*fence, left)
        await self._scripts.run(
            "write", [_counter(product_id) for product_id, _, _ in levels], arguments
        )

    async def read(self, product_ids: Sequence[str]) -> list[Level | None]:
        """What the counters say; None where there is none of this server."""
        found = await self._scripts.run("read", [_counter(one) for one in product_ids], [])
        return [Level(one[0], Fence(one[1], one[2]), one[3]) if one else None for one in found]

    async def probe(self) -> None:
        """Whether Redis answers, and takes writes."""
        # No product is called like that: its id has no colon.
        await self._scripts.probe("{stock}::probe")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._scripts.close()


def _parts(takes: Sequence[Take]) -> Iterator[list[Take]]:
    """So many at once that a call is over in a moment: it keeps everybody else waiting."""
    part: list[Take] = []
    lines = 0
    for take in takes:
        if part and lines + len(take.lines) > LINES_AT_ONCE:
            yield part
            part, lines = [], 0
        part.append(take)
        lines += len(take.lines)
    if part:
        yield part


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
