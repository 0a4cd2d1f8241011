"""The faults that are set, and how often each struck: kept in the book, over kills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway_simulator.faults import Faults

if TYPE_CHECKING:
    from gateway_simulator.faults import Family, Operation, Rule
    from gateway_simulator.store import Store

_NAME = "faults"


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rules that strike a request, at most one of each family."""

    request: Rule | None = None
    webhook: Rule | None = None


NOTHING = Drawn()


class FaultMemory:
    """Rules and counts. All methods that write are called within a step of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        stored = store.value("SELECT value FROM about WHERE name = ?", (_NAME,))
        self.faults = Faults.model_validate_json(stored) if stored else Faults()

    def replace(self, faults: Faults) -> None:
        """Set these instead of all others; the counts begin anew."""
        document = faults.model_dump_json(by_alias=True)
        self._store.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (_NAME, document))
        self._store.execute("DELETE FROM strike")
        self._store.execute("DELETE FROM attempt")
        self.faults = faults

    def shown(self) -> dict[str, Any]:
        """The document, each rule with the number of its strikes."""
        shown = self.faults.model_dump(mode="json", by_alias=True)
        for rule, struck in zip(shown["rules"], self._struck(), strict=True):
            rule["on"] = sorted(rule["on"])
            rule["struck"] = struck
        return shown

    def draw_down(self, operation: Operation, key: str) -> Rule | None:
        """Whether the provider is down for a request."""
        if not any(rule.family == "down" for rule in self.faults.rules):
            return None
        return self._draw("down", operation, key, self._count(f"down:{operation}", key))

    def draw(self, operation: Operation, key: str) -> Drawn:
        """What strikes a request that came under `key`, and is counted here."""
        if not self.faults.rules:
            return NOTHING
        attempt = self._count(operation, key)
        return Drawn(
            self._draw("request", operation, key, attempt),
            self._draw("webhook", operation, key, attempt),
        )

    def _draw(self, family: Family, operation: Operation, key: str, attempt: int) -> Rule | None:
        place = self.faults.choose(family, operation, key, attempt, self._struck())
        if place is None:
            return None
        self._store.execute(
            "INSERT INTO strike VALUES (?, 1) ON CONFLICT DO UPDATE SET struck = struck + 1",
            (place,),
        )
        return self.faults.rules[place]

    def _count(self, operation: str, key: str) -> int:
        count: int = self._store.value(
            "INSERT INTO attempt VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET requests = requests + 1 RETURNING requests",
            (operation, key),
        )
        return count

    def _struck(self) -> list[int]:
        counts = dict(self._store.execute("SELECT rule, struck FROM strike").fetchall())
        return [counts.get(place, 0) for place in range(len(self.faults.rules))]
