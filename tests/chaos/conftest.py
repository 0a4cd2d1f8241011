"""Everything that is killed under load, one thing after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local_stack import Stack


@pytest.fixture(autouse=True)
def whole(stack: Stack) -> Stack:
    """The infrastructure is well again before the next test begins."""
    return stack
