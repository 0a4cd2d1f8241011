"""Latencies as counts of whole milliseconds.

The broker stamps messages with whole milliseconds. A count for each loses nothing that was
measured, merges by addition and stays small, which is what HDR histograms are for; so there is
none here. numpy takes the quantiles.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def counted(latencies_ms: Iterable[float]) -> dict[int, int]:
    """How many took how long, rounded up: an order never looks faster than it was."""
    counts = Counter(math.ceil(one) for one in latencies_ms)
    return dict(sorted(counts.items()))


def merged(several: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """All of them as one."""
    total: Counter[int] = Counter()
    for one in several:
        total.update(one)
    return dict(sorted(total.items()))


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The shortest time, ms, within which at least `share` (0 to 1) of all ended.

    Raises ValueError where nothing was counted.
    """
    if not counts:
        raise ValueError("nothing was counted")
    values = np.array(sorted(counts))
    weights = np.array([counts[int(value)] for value in values])
    return int(np.quantile(values, share, weights=weights, method="inverted_cdf"))


def curve(counts: Mapping[int, int]) -> tuple[list[float], list[int]]:
    """The whole distribution: one in how many (1, 2, 10, 100 …) took at least how long, ms."""
    values = sorted(counts)
    numbers = np.array([counts[value] for value in values])
    slower_or_equal = np.cumsum(numbers[::-1])[::-1]
    return [float(one) for one in numbers.sum() / slower_or_equal], values
