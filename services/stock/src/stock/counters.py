"""The counters of hot products, in Redis or Valkey: what a crowd is admitted by.

A counter holds what its row in Postgres has available, less what was admitted and isn't committed
yet. It can be lost, or be wrong, at any moment, and costs nothing but a refusal then: the verdict
is taken on the row. What each script does stands at its head, in `lua/`.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as SlowError

from stock.records import Fence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    from shared.contracts.stock import WhenRedisDown

_T = TypeVar("_T")

ANSWER_WITHIN_S = 0.25
LINES_AT_ONCE = 2_000
"""Of the orders of one call."""
RETRIES = 3
"""Asked again under the same ids, so that a reply that was lost changes nothing."""
ALL_WITHIN_S = 1.0
MEMORY_S = 3_600
"""How long an admission is remembered: longer than any command stays unread while all is well.
What is forgotten sooner is found by the reconciler."""


class CountersAwayError(Exception):
    """Redis doesn't answer, or refuses to: out of memory, read-only, loading."""


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
        self._scripts = {
            name: (files("stock") / f"lua/{name}.lua").read_text("utf-8")
            for name in ("admit", "take_back", "move", "write", "read")
        }
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._scripts.items()
        }

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
            found = await self._run("admit", keys, arguments)
            answers += [_read_answer(one, products) for one in found]
        return answers

    async def take_back(self, take: Take) -> None:
        """Give back what `take` was admitted for, if it is remembered."""
        arguments: list[int] = []
        for line in take.lines:
            arguments += (*line.fence, line.quantity)
        keys = [_memory(take.command_id), *(_counter(line.product_id) for line in take.lines)]
        await self._run("take_back", keys, arguments)

    async def move(self, move: Move) -> None:
        """Follow what Postgres moved, once."""
        keys = [_memory(f"{move.command_id}:{move.product_id}"), _counter(move.product_id)]
        await self._run("move", keys, [*move.fence, move.units, MEMORY_S])

    async def write(self, levels: Sequence[tuple[str, Fence, int]]) -> None:
        """Write counters anew: product id, fence, what is left."""
        # What is asked twice, as after a lost reply, must not write over what came in between.
        arguments: list[Any] = [secrets.token_hex(8)]
        for _, fence, left in levels:
            arguments += (*fence, left)
        await self._run("write", [_counter(product_id) for product_id, _, _ in levels], arguments)

    async def read(self, product_ids: Sequence[str]) -> list[Level | None]:
        """What the counters say; None where there is none of this server."""
        found = await self._run("read", [_counter(one) for one in product_ids], [])
        return [Level(one[0], Fence(one[1], one[2]), one[3]) if one else None for one in found]

    async def probe(self) -> None:
        """Whether Redis answers, and takes writes."""
        await self._answer(self._redis.set("{stock}:probe", "", ex=60))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return await self._answer(self._evaluate(script, keys, arguments))

    async def _evaluate(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        given = (len(keys), *keys, *arguments)
        try:
            return await self._redis.evalsha(self._digests[script], *given)
        except NoScriptError:
            # The server has forgotten it, and may forget it again: the text goes with the call.
            return await self._redis.eval(self._scripts[script], *given)

    async def _answer(self, asked: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(ALL_WITHIN_S):
                return await asked
        except (RedisError, OSError) as error:
            raise CountersAwayError(f"{type(error).__name__}: {error}") from error


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
