"""What an undo found, said in every reply to one."""

from enum import StrEnum


class Effect(StrEnum):
    UNDONE = "undone"
    NOTHING = "nothing"
    """There was nothing to undo; a `do` that comes later is refused."""
