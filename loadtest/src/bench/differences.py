"""How one way is beside another, and whether that is a reason to choose it. Pure.

Two are compared within each round, where the machine is the same for both. A difference counts
where its spread excludes "none" and its middle is notable; everything else is no reason to choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bench.figures import MIN_VALUES, Spread, plain_spread, spread
from bench.text import count, interval, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Better, Figure

NOTABLE: Final = 1.1
"""A factor below which a difference moves nobody to give up the simpler way."""
RATIOS_SAID: Final = (
    "Ratios are taken within each round, where the machine is the same for both. Better and worse"
    " are told where the spread excludes 1 and the ratio is a tenth or more away from it."
)
NOT_LEFT_ALONE: Final = "The machine was not left alone: measure again before you act on it."


class Judged(Protocol):
    """A difference of any sort."""

    @property
    def virtue(self) -> str:
        """What one can be better in."""
        ...

    @property
    def judged(self) -> int:
        """1: better, -1: worse, 0: no difference seen."""
        ...

    @property
    def cells(self) -> tuple[str, str, str]:
        """What was compared, what was found, and its spread, in a table."""
        ...

    @property
    def shown(self) -> str:
        """What was found, in brackets after what was compared."""
        ...


class Difference(NamedTuple):
    """Of one to another, as a ratio: that of the other is 1."""

    virtue: str
    ratio: Spread
    better: Better

    @property
    def judged(self) -> int:
        """1: better, -1: worse, 0: no difference seen."""
        low, high, middle = self.ratio.low, self.ratio.high, self.ratio.median
        if low is None or high is None:
            return 0
        more = int(low > 1 and middle >= NOTABLE) - int(high < 1 and middle <= 1 / NOTABLE)
        return more if self.better == "more" else -more

    @property
    def cells(self) -> tuple[str, str, str]:
        """In a table."""
        return f"times the {self.virtue}", number(self.ratio.median), interval(self.ratio)

    @property
    def shown(self) -> str:
        """In brackets."""
        return f"{number(self.ratio.median)} times, {interval(self.ratio)}"

    def __str__(self) -> str:
        _, middle, ends = self.cells
        return f"{middle} times the {self.virtue}, spread {ends}"


class Gap(NamedTuple):
    """Of two counts, of which less is better, and which may be 0."""

    virtue: str
    own: float
    others: float
    gap: Spread
    """Own less the other's."""
    notable: float
    """From how many on it matters."""

    @property
    def judged(self) -> int:
        """1: better, -1: worse, 0: no difference seen."""
        low, high, middle = self.gap.low, self.gap.high, self.gap.median
        if low is None or high is None:
            return 0
        return int(high < 0 and middle <= -self.notable) - int(low > 0 and middle >= self.notable)

    @property
    def cells(self) -> tuple[str, str, str]:
        """In a table."""
        beside = f"{count(self.own)} beside {count(self.others)}"
        return self.virtue, beside, f"{interval(self.gap)} apart"

    @property
    def shown(self) -> str:
        """In brackets."""
        _, beside, ends = self.cells
        return f"{beside}, {ends}"


def ratio_of(
    virtue: str,
    ones: Sequence[float],
    others: Sequence[float],
    better: Better,
    resolution: float = 0.0,
) -> Difference:
    """The ratio of figures, round by round; `resolution` is the instrument's.

    What was too small to be read, and is 0, is no different from anything.
    """
    if min(*ones, *others) <= 0:
        return Difference(virtue, Spread(1.0, None, None), better)
    ratios = [one / other for one, other in zip(ones, others, strict=True)]
    return Difference(virtue, spread(ratios, resolution / min(others)), better)


def gap_of(virtue: str, own: Figure, others: Figure, notable: float) -> Gap:
    """The gap between counts, round by round."""
    gaps = [one - other for one, other in zip(own.values, others.values, strict=True)]
    return Gap(virtue, own.spread.median, others.spread.median, plain_spread(gaps), notable)


def too_few(repeats: int) -> str | None:
    """Why nothing can be advised; None where it can."""
    if repeats >= MIN_VALUES:
        return None
    return (
        f"Nothing can be advised: a spread needs {MIN_VALUES} rounds at least, and there were"
        f" {repeats}."
    )


def by_chance(comparisons: int) -> str:
    """What to bear in mind of many comparisons."""
    return f"One in 20 of the {comparisons} comparisons may be chance."
