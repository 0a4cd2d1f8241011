"""How many letters there are of each cause. Bounded whatever comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orderctl.dead_letters.letter import moment

if TYPE_CHECKING:
    from orderctl.dead_letters.letter import Letter, Place

CAUSES_AT_MOST: Final = 100
"""Further ones are counted as one: types and topics in letters are text of others."""
ERROR_CHARS: Final = 300
NAME_CHARS: Final = 80
NO_TYPE: Final = "(no type)"


class Cause(NamedTuple):
    """What letters have in common."""

    origin: str
    reason: str
    type: str


OTHERS: Final = Cause("(further causes)", "", "")


@dataclass(slots=True)
class Tally:
    """The letters of one cause. The example is the latest: it stays longest."""

    count: int = 0
    first_ms: int = 0
    last_ms: int = 0
    example: Place | None = None
    error: str = ""

    def add(self, letter: Letter) -> None:
        """Count it."""
        if not self.count or letter.at_ms < self.first_ms:
            self.first_ms = letter.at_ms
        if not self.count or letter.at_ms >= self.last_ms:
            self.last_ms, self.example = letter.at_ms, letter.place
            self.error = letter.error[:ERROR_CHARS]
        self.count += 1


@dataclass(slots=True)
class Causes:
    """Letters by cause."""

    tallies: dict[Cause, Tally] = field(default_factory=dict)

    def add(self, letter: Letter) -> None:
        """Count it under its cause."""
        kind = letter.type() or NO_TYPE
        cause = Cause(letter.origin[:NAME_CHARS], letter.reason[:NAME_CHARS], kind)
        if cause not in self.tallies and len(self.tallies) >= CAUSES_AT_MOST:
            cause = OTHERS
        self.tallies.setdefault(cause, Tally()).add(letter)

    @property
    def letters(self) -> int:
        """How many were counted."""
        return sum(tally.count for tally in self.tallies.values())

    def by_count(self) -> list[tuple[Cause, Tally]]:
        """The most frequent first; what has no name of its own last."""
        return sorted(self.tallies.items(), key=lambda item: (item[0] == OTHERS, -item[1].count))

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "letters": self.letters,
            "causes": [
                {
                    "origin": cause.origin,
                    "reason": cause.reason,
                    "type": None if cause.type == NO_TYPE else cause.type,
                    "count": tally.count,
                    "first": moment(tally.first_ms),
                    "last": moment(tally.last_ms),
                    "example": str(tally.example),
                    "error": tally.error,
                }
                for cause, tally in self.by_count()
            ],
        }
