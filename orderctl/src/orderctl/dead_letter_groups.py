"""Which letters are meant, and how many there are of each cause. Bounded whatever comes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orderctl.options import duration_s
from shared.contracts.base import format_time

if TYPE_CHECKING:
    from orderctl.dead_letter_record import Letter, Place

CAUSES_AT_MOST: Final = 100
"""Further ones are counted as one: types and topics in letters are text of others."""
ERROR_CHARS: Final = 300
NAME_CHARS: Final = 80
NO_TYPE: Final = "(no type)"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant: those that fit all that is given."""

    topics: tuple[str, ...] = ()
    reason: str = ""
    type: str = ""
    origin: str = ""
    order: str = ""
    since_ms: int | None = None

    @property
    def narrows(self) -> bool:
        """Whether anything is given."""
        return self != Selection()

    def takes(self, letter: Letter) -> bool:
        """Whether that letter is meant; its topic is the reader's business."""
        return (
            (self.since_ms is None or letter.at_ms >= self.since_ms)
            and self.reason in ("", letter.reason)
            and self.origin in ("", letter.origin)
            and (not self.type or self.type == (letter.type() or NO_TYPE))
            and (not self.order or self.order == letter.order_id())
        )


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


def moment(at_ms: int) -> str:
    """As contracts write times; what is no time in this calendar, as the number it is."""
    try:
        return format_time(datetime.fromtimestamp(at_ms / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return str(at_ms)


def parse_since(text: str, now: datetime) -> int:
    """The moment that `2h`, `30m`, `7d` ago or an RFC 3339 time names, in ms since 1970.

    Raises ValueError with what is wrong.
    """
    with contextlib.suppress(ValueError):
        return max(int((now.timestamp() - duration_s(text)) * 1000), 0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None:
        raise ValueError(f"'{text}' is no time: as 30m, 2h or 7d ago, or 2026-01-31T09:00:00Z")
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return max(int(found.timestamp() * 1000), 0)
