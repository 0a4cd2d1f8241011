"""What the instances of stock count of themselves, read from their admin ports."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.errors import BenchError
from bench.strategies.record import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ANSWER_WITHIN_S: Final = 5.0
GROUP: Final = "stock"
"""Whose chunks count: those of the saga's commands, not of the operators'."""
TURNED_AWAY: Final = "turned_away"
"""The answer of a counter that counts."""


class Tallies:
    """Reads the metrics of several instances as one."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are those of the admin ports."""
        self._urls = urls
        # A connection that is kept may be closed by the other end just when it is used again.
        self._client = httpx.AsyncClient(
            timeout=ANSWER_WITHIN_S, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def read(self) -> Tally:
        """All that was counted since the instances started. Raises BenchError."""
        try:
            answers = await asyncio.gather(
                *(self._client.get(f"{url.rstrip('/')}/metrics") for url in self._urls)
            )
            return tally(answer.raise_for_status().text for answer in answers)
        except httpx.HTTPError as error:
            raise BenchError(f"stock does not tell its metrics: {error}") from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def tally(texts: Iterable[str]) -> Tally:
    """The sum over the texts of several instances; what is not there was never counted."""
    found: defaultdict[str, float] = defaultdict(float)
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if _counts(sample.labels):
                    found[sample.name] += sample.value
    return Tally(
        chunks=int(found["pipeline_chunk_messages_count"]),
        conflicts=int(found["stock_conflicts_total"]),
        locks=int(found["stock_lock_seconds_count"]),
        lock_s=found["stock_lock_seconds_sum"],
        turned_away=int(found["stock_counter_answers_total"]),
    )


def _counts(labels: Mapping[str, str]) -> bool:
    return labels.get("group", GROUP) == GROUP and labels.get("answer", TURNED_AWAY) == TURNED_AWAY
