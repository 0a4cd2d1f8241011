"""A bounded memory: what was written longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Latest(OrderedDict[Key, Value]):
    """The values that were written last, each key once. Whoever counts a look as use moves the key
    to the end."""

    def __init__(self, at_most: int) -> None:
        super().__init__()
        self._at_most = at_most

    def __setitem__(self, key: Key, value: Value) -> None:
        """Remember, and forget the oldest where there are too many."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._at_most:
            self.popitem(last=False)
