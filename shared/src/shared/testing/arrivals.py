"""In which order users came, as it lies on the topic, and who was overtaken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.testing.kafka_records import Record


def arrivals_of(records: Sequence[Record]) -> dict[str, dict[int, list[str]]]:
    """The users of each campaign, each once, as they lie on each partition."""
    arrivals: dict[str, dict[int, dict[str, None]]] = {}
    for record in sorted(records, key=lambda one: (one.partition, one.offset)):
        said = record.json
        of_campaign = arrivals.setdefault(said["couponId"], {})
        of_campaign.setdefault(record.partition, {}).setdefault(said["userId"])
    return {
        campaign: {number: list(users) for number, users in partitions.items()}
        for campaign, partitions in arrivals.items()
    }


def overtaken(arrived: Sequence[str], given: Mapping[str, int]) -> int:
    """How many users of one partition have a higher number than one who came later, or none."""
    lowest, count = math.inf, 0
    for user in reversed(arrived):
        number = given.get(user, math.inf)
        count += number > lowest
        lowest = min(lowest, number)
    return count
