"""Who was overtaken: what a proof of fair order must see."""

from __future__ import annotations

import pytest

from shared.testing.arrivals import arrivals_of, overtaken
from shared.testing.kafka import Record
from shared.testing.kafka_records import keys_on_all_partitions


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"a": 1, "b": 2}, 0),
        ({"a": 2, "b": 1}, 1),
        ({"b": 1, "c": 2}, 1),
        ({"c": 1, "d": 2}, 2),
        ({"d": 1, "c": 2, "b": 3, "a": 4}, 3),
        ({}, 0),
    ],
)
def test_overtaken_is_who_has_a_higher_number_or_none(given: dict[str, int], count: int) -> None:
    assert overtaken(["a", "b", "c", "d"], given) == count


def test_users_arrive_once_by_the_offsets_of_each_partition() -> None:
    def record(user: str, partition: int, offset: int) -> Record:
        value = f'{{"couponId":"C","userId":"{user}"}}'.encode()
        return Record(value, partition=partition, offset=offset)

    records = [record("b", 0, 1), record("a", 0, 0), record("a", 0, 2), record("c", 1, 0)]
    assert arrivals_of(records) == {"C": {0: ["a", "b"], 1: ["c"]}}


def test_keys_lie_on_one_partition_after_the_other() -> None:
    keys = keys_on_all_partitions("C", 13)
    assert len(set(keys)) == 13
    assert keys[:2] == keys_on_all_partitions("C", 2)
