"""Ids as the outside gives them. Without pydantic, so that a tool may look at one at once."""

import re
from typing import Final

ID_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"
_ID: Final = re.compile(ID_PATTERN.replace("$", r"\Z"))


def is_id(text: str) -> bool:
    """Whether `text` is an id as the outside gives them."""
    return _ID.match(text) is not None
