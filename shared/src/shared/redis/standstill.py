"""What differs for good, and not only while something is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

STILL_PASSES: Final = 4
"""What differs from its row is wrong after both stood still for so many passes in a row: by then a
chunk that was admitted has committed, or waits for a lock and asks again."""


class Standstill:
    """For how many passes in a row each thing looked the same."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[str, tuple[object, int]] = {}

    def lasts(self, key: str, looks: object) -> bool:
        """Whether `key` looked like that for more than `STILL_PASSES` passes, this one among
        them."""
        before, passes = self._seen.get(key, (looks, 0))
        passes = passes + 1 if before == looks else 1
        self._seen[key] = looks, passes
        return passes > STILL_PASSES

    def ends(self, key: str) -> None:
        """There is nothing to wait for."""
        self._seen.pop(key, None)

    def keep_only(self, keys: Container[str]) -> None:
        """Forget all others."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}
