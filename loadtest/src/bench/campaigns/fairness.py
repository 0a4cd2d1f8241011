"""Who came before whom, and who got a coupon all the same. Pure.

Of two requests on one partition the one with the lower offset came first; of two on different ones,
the one with the earlier timestamp. Those of the same millisecond on different partitions came at
once: none of them can be overtaken by the other.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Place = tuple[int, int]
"""Where somebody came, and the sequence of their coupon."""


class Arrival(NamedTuple):
    """Where and when the broker stored a request."""

    at_ms: int
    partition: int
    offset: int

    def before(self, other: Arrival) -> bool:
        """Whether this one came first."""
        if self.partition == other.partition:
            return self.offset < other.offset
        return self.at_ms < other.at_ms


class Fairness(NamedTuple):
    """How coupons went to those who came."""

    overtaken: int
    """Users who got nothing while somebody who came later got a coupon."""
    inversions: int
    """Pairs of coupons of which the one with the lower sequence went to who came later."""
    early: int
    """Coupons that went to the earlier half of the users."""


def fairness(arrivals: Mapping[str, Arrival], sequences: Mapping[str, int]) -> Fairness:
    """By user or request: when each came, and the sequence of each one's coupon."""
    given = {one: arrivals[one] for one in sequences}
    left = [arrival for one, arrival in arrivals.items() if one not in given]
    in_order = sorted(arrivals, key=arrivals.__getitem__)
    early = in_order[: len(in_order) // 2]
    return Fairness(
        overtaken=_overtaken(left, given.values()),
        inversions=_inversions([(given[one], sequences[one]) for one in given]),
        early=sum(one in given for one in early),
    )


def _overtaken(left: Iterable[Arrival], given: Iterable[Arrival]) -> int:
    last_offset: dict[int, int] = {}
    last_ms: dict[int, int] = {}
    for one in given:
        last_offset[one.partition] = max(last_offset.get(one.partition, -1), one.offset)
        last_ms[one.partition] = max(last_ms.get(one.partition, -1), one.at_ms)
    return sum(
        one.offset < last_offset.get(one.partition, -1)
        or any(one.at_ms < at_ms for place, at_ms in last_ms.items() if place != one.partition)
        for one in left
    )


def _inversions(given: Iterable[tuple[Arrival, int]]) -> int:
    by_time: list[Place] = []
    by_partition: defaultdict[int, list[tuple[Arrival, int]]] = defaultdict(list)
    for arrival, sequence in given:
        by_time.append((arrival.at_ms, sequence))
        by_partition[arrival.partition].append((arrival, sequence))
    found = _inverted(by_time)
    for ones in by_partition.values():  # where offsets tell, and not timestamps
        found -= _inverted((arrival.at_ms, sequence) for arrival, sequence in ones)
        found += _inverted((arrival.offset, sequence) for arrival, sequence in ones)
    return found


def _inverted(places: Iterable[Place]) -> int:
    """Pairs of which the lower place has the higher sequence; equal places make none."""
    seen: list[int] = []
    found = 0
    for _, sequence in sorted(places):
        found += len(seen) - bisect_right(seen, sequence)
        insort(seen, sequence)
    return found
