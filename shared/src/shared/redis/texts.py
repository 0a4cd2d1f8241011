"""The texts of a package's Lua scripts, and the digests that Redis knows them by."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Texts:
    """The files `lua/*.lua` of a package."""

    def __init__(self, package: str, names: Iterable[str]) -> None:
        self._texts = {
            name: (files(package) / f"lua/{name}.lua").read_text("utf-8") for name in names
        }
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._texts.items()
        }

    def text(self, name: str) -> str:
        """What EVAL takes: a server that has forgotten a script may forget it again."""
        return self._texts[name]

    def digest(self, name: str) -> str:
        """What EVALSHA takes."""
        return self._digests[name]
