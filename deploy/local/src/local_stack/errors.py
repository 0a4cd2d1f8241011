"""What can go wrong with the stack, in words for the person at the terminal."""


class StackError(Exception):
    """The stack can't do what it was asked. The message says why and what helps."""


class PartError(StackError):
    """A part can't be started, and trying again would not help."""


class Unhealthy(Exception):  # noqa: N818 - a state, not a mistake
    """A part does not answer as it should; the message says how it answered."""
