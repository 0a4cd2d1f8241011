"""How much is under way at once: what comes beyond that is told to come again later (F62)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from storefront.metrics import IN_FLIGHT, TURNED_AWAY
from storefront.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Admission:
    """Counts what is under way."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._under_way = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place. Raises ProblemError (503) where none is free."""
        if self._under_way >= self._at_most:
            TURNED_AWAY.labels("overload").inc()
            raise unavailable(
                f"{self._at_most} requests are under way already; try again", reason="overloaded"
            )
        self._under_way += 1
        IN_FLIGHT.set(self._under_way)
        try:
            yield
        finally:
            self._under_way -= 1
            IN_FLIGHT.set(self._under_way)
