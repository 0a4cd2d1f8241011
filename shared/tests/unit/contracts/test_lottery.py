"""A draw is recomputed from what is published."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.lottery import entries_hash, seed_hash, ticket, winners

IDS = st.text("abcABC019._-", min_size=1, max_size=12)
SEEDS = st.text("0123456789abcdef", min_size=32, max_size=64)


def test_hashes_are_those_of_a_shell() -> None:
    """`printf %s 00ff | sha256sum` and the like."""
    assert seed_hash("00ff") == hashlib.sha256(b"00ff").hexdigest()
    assert ticket("00ff", "user_1") == hashlib.sha256(b"00ff:user_1").hexdigest()
    first = hashlib.sha256(f"{'0' * 64}:b".encode()).hexdigest()
    assert entries_hash(["b"]) == first
    assert entries_hash(["b", "a"]) == hashlib.sha256(f"{first}:a".encode()).hexdigest()


@given(st.lists(IDS), st.lists(IDS))
def test_entries_are_hashed_as_they_come(first: list[str], then: list[str]) -> None:
    assert entries_hash(then, entries_hash(first)) == entries_hash([*first, *then])


@given(st.lists(IDS, min_size=1, unique=True), st.randoms(), IDS)
def test_no_entry_is_moved_left_out_or_slipped_in(
    users: list[str], random: object, other: str
) -> None:
    shuffled = list(users)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert (entries_hash(shuffled) == entries_hash(users)) == (shuffled == users)
    assert entries_hash(users[1:]) != entries_hash(users) != entries_hash([other, *users])


@given(SEEDS, st.sets(IDS, max_size=30), st.integers(0, 40), st.randoms())
def test_winners_hang_on_seed_and_entries_alone(
    seed: str, users: set[str], limit: int, random: object
) -> None:
    shuffled = sorted(users)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    drawn = winners(seed, shuffled, limit)

    assert drawn == winners(seed, users, limit)
    assert len(drawn) == min(limit, len(users)) == len(set(drawn))
    assert set(drawn) <= users
    assert drawn == winners(seed, users, len(users))[:limit], "the order stays, whoever else wins"


def test_everybody_has_the_same_chance() -> None:
    users = [f"user_{number}" for number in range(10)]
    won = Counter(winners(f"{seed:032x}", users, 1)[0] for seed in range(5_000))

    # 500 each; 6 standard deviations are 127
    assert all(abs(won[user] - 500) < 127 for user in users), won
