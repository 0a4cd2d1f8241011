"""An order's history as a timeline: a line for each transition, and what it wrote below."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.text import Text

from orderctl.terminal import cell, duration, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from orderctl.admin_api import Document

BAR_CELLS: Final = 6
FIRST_LINES: Final = 20
LAST_LINES: Final = 180
"""Of a longer history the middle is left out."""
_HEAD: Final = f"{'v':<3}  {'at':<12}  {'offset':>8}  {'took':>7} {'':<6}  {'state':<16}  cause"


def timeline(order: Document, *, blocks: bool = True) -> Iterator[RenderableType]:
    """The lines to print. `blocks` says whether the terminal can draw more than ASCII."""
    entries: Sequence[Document] = order["history"]
    moments = [_moment(entry.get("at")) for entry in entries]
    took_s = _took_s(moments, None if _ended(order) else _moment(order.get("askedAt")))
    longest_s = max((taken for taken in took_s if taken is not None), default=0.0)
    start = next((moment for moment in moments if moment), None)
    day = start and start.date()
    yield Text(_HEAD)
    left_out = range(FIRST_LINES, max(len(entries) - LAST_LINES, FIRST_LINES))
    for number, (entry, moment, taken) in enumerate(zip(entries, moments, took_s, strict=True)):
        if number in left_out:
            if number == left_out[0]:
                yield Text(f"... {len(left_out):,} lines are left out; --json has them all")
            continue
        if moment and moment.date() != day:
            day = moment.date()
            yield Text(f"{'':<3}  {day}")
        clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}" if moment else entry.get("at")
        offset = duration((moment - start).total_seconds()) if moment and start else ""
        line = (
            f"{entry.get('version') or '':<3}  {clock or '':<12}  {'+' + offset:>8}"
            f"  {'' if taken is None else duration(taken):>7} {_bar(taken, longest_s, blocks):<6}"
            f"  {entry.get('state') or '':<16}  {entry.get('cause') or ''}"
        )
        yield Text(visible(line), overflow="fold")
        wrote = _wrote(entry)
        if wrote:
            yield Padding(cell(wrote), (0, 0, 0, 5))


def _wrote(entry: Document) -> str:
    """What went out with the transition, as far as that is known, and its note."""
    commands, events = entry.get("commands"), entry.get("events")
    parts = [
        f"sent {', '.join(commands)}" if commands else "",
        f"told {', '.join(events)}" if events else "",
        entry.get("note") or "",
    ]
    return "; ".join(filter(None, parts))


def _took_s(moments: Sequence[datetime | None], until: datetime | None) -> list[float | None]:
    """How long each state lasted, in seconds; the last one up to `until`."""
    return [
        (after - moment).total_seconds() if moment and after else None
        for moment, after in zip(moments, [*moments[1:], until], strict=True)
    ]


def _bar(taken_s: float | None, longest_s: float, blocks: bool) -> str:
    if not taken_s or longest_s <= 0:
        return ""
    eighths = max(round(BAR_CELLS * 8 * taken_s / longest_s), 1)
    if not blocks:
        return "#" * max(eighths // 8, 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]


def _ended(order: Document) -> bool:
    return order.get("state") in ("CONFIRMED", "REJECTED", "CANCELLED")


def _moment(written: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(written))
    except ValueError:
        return None
