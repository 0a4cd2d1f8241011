"""The closed lists of the tables are those of the code."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from coupon.records import CouponState, HoldState
from shared.contracts.coupon import CampaignKind, CampaignLife, DiscountType

SCHEMA = (files("coupon") / "sql/migrations/0001_initial.sql").read_text("utf-8")


@pytest.mark.parametrize(
    ("table", "column", "members"),
    [
        ("campaign", "kind", set(CampaignKind)),
        ("campaign", "discount_type", set(DiscountType)),
        ("coupon_hold", "state", set(HoldState)),
        ("coupon", "state", set(CouponState)),
    ],
)
def test_enum_equals_check(table: str, column: str, members: set[str]) -> None:
    definition = SCHEMA.partition(f"CREATE TABLE {table} (")[2].partition("WITH (fillfactor")[0]
    (listed,) = re.findall(rf"CHECK \({column} IN \(([^)]*)\)\)", definition)
    assert set(re.findall(r"'([^']+)'", listed)) == members


def test_lives_are_those_of_the_view() -> None:
    kinds = (files("coupon") / "sql/migrations/0002_kinds.sql").read_text("utf-8")
    definition = kinds.partition("CREATE VIEW campaign_life")[2].partition(";")[0]
    assert set(re.findall(r"(?:THEN|ELSE) '(\w+)'", definition)) == set(CampaignLife)
