"""What can go wrong, in words for the person at the terminal."""

from __future__ import annotations


class OperatorError(Exception):
    """The tool can't do what it was asked. The message says why and what helps."""


class AwayError(OperatorError):
    """Whoever was asked can't answer now; whatever is asked next would fail alike."""
