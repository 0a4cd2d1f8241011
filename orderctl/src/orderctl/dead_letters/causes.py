"""How many letters there are of each cause. Bounded whatever comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orderctl.dead_letters.advice import BY_REASON, UNREADABLE_REASONS
from orderctl.dead_letters.letter import moment
from shared.contracts.reading import type_name
from shared.contracts.topics import TOPICS

if TYPE_CHECKING:
    from orderctl.dead_letters.letter import Letter, Place

CAUSES_AT_MOST: Final = 100
"""Of those with a word that is none of the contract's: what stands in letters is text of others.
Further ones are counted together."""
ERROR_CHARS: Final = 300
NAME_CHARS: Final = 80
NO_TYPE: Final = "(no type)"
REASONS: Final = frozenset({*BY_REASON, *UNREADABLE_REASONS})


class Cause(NamedTuple):
    """What letters have in common."""

    origin: str
    reason: str
    type: str


OTHERS: Final = Cause("(further causes)", "", "")
OTHER_TYPES: Final = "(further types)"


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
    _strange: int = field(default=0, init=False)

    def add(self, letter: Letter) -> None:
        """Count it under its cause."""
        kind = letter.type() or NO_TYPE
        cause = Cause(letter.origin[:NAME_CHARS], letter.reason[:NAME_CHARS], kind)
        if cause not in self.tallies and not _is_of_contract(cause):
            if self._strange < CAUSES_AT_MOST:
                self._strange += 1
            else:
                rest = cause._replace(type=OTHER_TYPES)
                cause = rest if _is_of_contract(rest) else OTHERS
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


def _is_of_contract(cause: Cause) -> bool:
    """Whether all its words are the contract's, of which there are so many and no more: such a
    cause is told however many strange ones came before it."""
    topic = TOPICS.get(cause.origin)
    return (
        topic is not None
        and cause.reason in REASONS
        and cause.type in (NO_TYPE, OTHER_TYPES, *map(type_name, topic.messages))
    )
