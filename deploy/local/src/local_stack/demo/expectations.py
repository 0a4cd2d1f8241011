"""What should become of the example orders, by kind. Pure.

An order's kind is its id up to the last dash: `paid-0001` is of the kind `paid`. Further lines of
one story have the same id, or one with a suffix after a dot.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel


class ExpectationsError(Exception):
    """The file of expectations is missing or can't be read."""


def _rising(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("two numbers mean at least and at most")
    return bounds


Count = Annotated[int, Field(ge=0)] | Annotated[tuple[int, int], AfterValidator(_rising)]
"""How many: a number, or at least and at most."""


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid"
    )


class Kind(_Part):
    """One kind of order."""

    what: str
    """In words, for the report."""
    outcomes: Mapping[str, Count]
    """`CONFIRMED`, or status and reason, as `REJECTED out_of_stock` -> how many orders."""
    refusals: Mapping[str, Count] = {}
    """Command and reason of each `CommandRefused`, as `CancelOrder too_late` -> how many."""
    second_line_after: str | None = None
    """The event of a story's first order that its second line waits for; None: it does not."""
    at_once: bool = False
    """Published without a pause, after all others."""


class Expectations(_Part):
    """The whole file."""

    kinds: Mapping[str, Kind]
    dead_letters: Mapping[str, Count]
    """Reason -> how many of the lines end in the dead letters."""
    without_order: Mapping[str, Count] = {}
    """Reason -> how many of those belong to no order: nothing else tells of them."""


def load(path: Path) -> Expectations:
    """Read the file. Raises ExpectationsError."""
    try:
        return Expectations.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ExpectationsError(f"{path} can't be read: {error}") from error


def story_of(order_id: str) -> str:
    """The story that an order belongs to: `coupon-used-0001` of `coupon-used-0001.2`."""
    return order_id.partition(".")[0]


def kind_of(order_id: str) -> str:
    """The kind of an order: `paid` of `paid-0001`; the id itself where it has no number."""
    return story_of(order_id).rpartition("-")[0] or order_id


def differences(found: Mapping[str, int], expected: Mapping[str, Count]) -> list[str]:
    """What is other than expected, each as a few words; empty where all is as expected."""
    problems = []
    for name in sorted(found.keys() | expected.keys()):
        count, bounds = found.get(name, 0), expected.get(name, 0)
        low, high = bounds if isinstance(bounds, tuple) else (bounds, bounds)
        if not low <= count <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            problems.append(f"{name}: {count}, not {wanted}")
    return problems
