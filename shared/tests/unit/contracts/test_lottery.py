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
    assert entries_hash(["b", "a", "B"]) == hashlib.sha256(b"B\na\nb\n").hexdigest()
    assert entries_hash([]) == hashlib.sha256(b"").hexdigest()


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
    assert entries_hash(shuffled) == entries_hash(users)


def test_everybody_has_the_same_chance() -> None:
    users = [f"user_{number}" for number in range(10)]
    won = Counter(winners(f"{seed:032x}", users, 1)[0] for seed in range(5_000))

    # 500 each; 6 standard deviations are 127
    assert all(abs(won[user] - 500) < 127 for user in users), won
