"""What can go wrong, in words for the person at the terminal."""

from __future__ import annotations


class OperatorError(Exception):
    """The tool can't do what it was asked. The message says why and what helps."""
