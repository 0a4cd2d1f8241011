"""What stands still is told from what is under way."""

from __future__ import annotations

from shared.redis import STILL_PASSES, Standstill


def test_what_looks_the_same_for_long_enough_lasts() -> None:
    still = Standstill()

    assert [still.lasts("C", 3) for _ in range(STILL_PASSES)] == [False] * STILL_PASSES
    assert still.lasts("C", 3)
    assert not still.lasts("C", 4), "it moved"
    assert not still.lasts("D", 4), "each for itself"


def test_what_ended_or_is_gone_begins_anew() -> None:
    still = Standstill()
    for key in ("C", "D", "E"):
        for _ in range(STILL_PASSES):
            still.lasts(key, 3)

    still.ends("C")
    still.keep_only({"C", "D"})

    assert [still.lasts(key, 3) for key in ("C", "D", "E")] == [False, True, False]
