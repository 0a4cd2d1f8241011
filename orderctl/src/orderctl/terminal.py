"""Text for the terminal. What came from outside may not steer it: control characters are shown."""

from __future__ import annotations

import re
from typing import Final

from rich.console import Console
from rich.text import Text

MIN_WIDTH: Final = 80
"""Narrower terminals break the lines themselves."""

# C0, DEL, C1; what turns the direction of text; halves of surrogate pairs, which can't be written.
_STEERING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object, *, keep: str = "") -> str:
    r"""The same with each control character as `\x1b`, but for those in `keep`."""
    return _STEERING.sub(lambda found: _shown(found[0], keep), str(text))


def cell(text: object) -> Text:
    """For a table: visible, and neither markup nor emoji code."""
    return Text(visible(text), overflow="fold")


def console() -> Console:
    """Where tables go. Nothing in them is cut off."""
    found = Console(highlight=False)
    found.width = max(found.width, MIN_WIDTH)
    return found


def _shown(character: str, keep: str) -> str:
    if character in keep:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
