"""Text, times and tables for the terminal: how all commands write them.

What came from outside may not steer a terminal: what isn't printable is shown by its number.
Times are in UTC.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_WIDTH: Final = 80
"""Narrower terminals break the lines themselves."""

_TIME: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<clock>[0-9:]{8})(?P<ms>\.[0-9]{3})?Z\Z"
)


def visible(text: object, *, keep: str = "") -> str:
    r"""The same with each character that is not printable as `\x1b`, but for those in `keep`.

    Those are control characters, what is invisible or turns the direction of text, line ends of
    any kind, and halves of surrogate pairs, which can't be written.
    """
    found = str(text)
    if found.isprintable():
        return found
    return "".join(one if one.isprintable() or one in keep else _shown(one) for one in found)


def cell(text: object) -> Text:
    """For a table: visible, and neither markup nor emoji code."""
    return Text(visible(text), overflow="fold")


def print_text(text: str) -> None:
    """Print lines, visible."""
    typer.echo(visible(text, keep="\n"))


def console() -> Console:
    """Where tables go. Nothing in them is cut off."""
    found = Console(highlight=False)
    found.width = max(found.width, MIN_WIDTH)
    return found


def open_table(*, header: bool = True) -> Table:
    """A table without lines, its columns two spaces apart."""
    return Table(box=None, padding=(0, 2, 0, 0), show_header=header)


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """A fact a line, its name before it; those without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(cell(name), cell(value))
    return table


def short_time(moment: str | None) -> str:
    """`2026-01-31 09:00:00` of a time as the contracts write it; any other text as it is."""
    found = _TIME.match(moment or "")
    return f"{found['date']} {found['clock']}" if found else moment or ""


def date_of(moment: object) -> str:
    """The date of a time as the contracts write it, or ""."""
    found = _TIME.match(str(moment))
    return found["date"] if found else ""


def time_of_day(moment: str | None, day: str) -> str:
    """The time of day to the millisecond, with the date where that is another than `day`."""
    found = _TIME.match(moment or "")
    if not found:
        return moment or ""
    clock = found["clock"] + (found["ms"] or "")
    return clock if found["date"] == day else f"{found['date']} {clock}"


def duration(seconds: float) -> str:
    """At most 7 characters: `12 ms`, `3.4 s`, `5m 20s`, `2h 5m`, `3d 4h`."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1_000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {whole}s"


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
