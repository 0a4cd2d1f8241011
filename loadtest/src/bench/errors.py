"""What can go wrong with a benchmark, in words for the person at the terminal."""


class BenchError(Exception):
    """The benchmark can't go on, or its figures would be wrong. The message says why."""
