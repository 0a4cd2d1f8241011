"""Every closed list stands twice, in Python and in a CHECK; here they are held equal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.contracts.base import MAX_PRICE, MAX_QUANTITY
from shared.contracts.stock import StockStrategy, WhenRedisDown
from shared.database.migrations import load_migrations
from stock.records import MovementKind, ReservationState

if TYPE_CHECKING:
    from enum import StrEnum

SQL = "\n".join(migration.sql for migration in load_migrations("stock"))


def check_of(column: str) -> set[str]:
    """The values that the CHECK beside `column … NOT NULL` takes."""
    pattern = rf"^    {column}\s+text\s+NOT NULL\s+CHECK \({column} IN \(([^)]*)\)"
    found = re.findall(pattern, SQL, re.MULTILINE)
    assert len(found) == 1, found
    return set(re.findall(r"'([^']*)'", found[0]))


@pytest.mark.parametrize(
    ("column", "enum"),
    [
        ("state", ReservationState),
        ("kind", MovementKind),
        ("strategy", StockStrategy),
        ("when_redis_down", WhenRedisDown),
    ],
)
def test_an_enum_equals_its_check(column: str, enum: type[StrEnum]) -> None:
    assert check_of(column) == {member.value for member in enum}


def test_limits_of_columns_are_those_of_the_contracts() -> None:
    assert f"CHECK (price BETWEEN 0 AND {MAX_PRICE})" in SQL
    assert f"CHECK (max_per_order BETWEEN 1 AND {MAX_QUANTITY})" in SQL


def test_the_readme_draws_every_state() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    diagram = readme.partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"\b[A-Z]{5,}\b", diagram))
    assert drawn == {state.value for state in ReservationState}
