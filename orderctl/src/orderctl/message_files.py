"""Files that hold messages, or `-` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orderctl.errors import OperatorError
from shared.contracts.base import Record
from shared.contracts.explaining import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN: Final = Path("-")


def called(path: Path) -> str:
    """What a file is called where something is wrong with it."""
    return "standard input" if path == STDIN else str(path)


def content_of(path: Path) -> bytes:
    """All that a file holds; `STDIN` is read from standard input. Raises OperatorError."""
    try:
        return sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path} can't be read: {error.strerror}") from error


def unknown_parts(sent: Any, read: Any, path: str = "") -> Iterator[str]:
    """What of `sent` is not in the record that was read from it: `items[].colour`."""
    if isinstance(read, Record) and isinstance(sent, dict):
        known = {field.alias: name for name, field in type(read).model_fields.items()}
        for key, value in sent.items():
            if key not in known:
                yield f"{path}{shorten(key)[1:-1]}"
            else:
                yield from unknown_parts(value, getattr(read, known[key]), f"{path}{key}.")
    elif isinstance(read, tuple) and isinstance(sent, list):
        for value, part in zip(sent, read, strict=False):
            yield from unknown_parts(value, part, f"{path[:-1]}[].")
