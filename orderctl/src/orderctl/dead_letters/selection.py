"""Which letters are meant: by topic, cause, order and age."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orderctl.dead_letters.causes import NO_TYPE
from orderctl.options import duration_s

if TYPE_CHECKING:
    from orderctl.dead_letters.letter import Letter


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
