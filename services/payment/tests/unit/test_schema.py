"""The closed lists of the tables are those of the code."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from payment.domain import PaymentState
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import PaymentRefusal

SCHEMA = (files("payment") / "sql/migrations/0001_initial.sql").read_text("utf-8")


@pytest.mark.parametrize(
    ("column", "members"),
    [
        ("state", set(PaymentState)),
        ("method", set(PaymentMethod)),
        # Said by a tombstone, which has no refusal of its own.
        ("refusal", set(PaymentRefusal) - {PaymentRefusal.ALREADY_REFUNDED}),
    ],
)
def test_enum_equals_check(column: str, members: set[str]) -> None:
    (listed,) = re.findall(rf"CHECK \({column} IN \(([^)]*)\)\)", SCHEMA)
    assert set(re.findall(r"'([^']+)'", listed)) == members
