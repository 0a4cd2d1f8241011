"""One Valkey database for the tests of a module, emptied before each."""

from __future__ import annotations

from shared.testing.module_valkeys import module_valkey, valkey

__all__ = ["module_valkey", "valkey"]
