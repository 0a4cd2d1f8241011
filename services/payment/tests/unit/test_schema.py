"""The closed lists of the tables are those of the code."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import CallKind, CallState, PaymentRefusal, PaymentState

FOLDER = files("payment") / "sql/migrations"
PAYMENTS = (FOLDER / "0001_initial.sql").read_text("utf-8")
GATEWAY = (FOLDER / "0002_gateway.sql").read_text("utf-8")
WIDER_STATES, CALLS = GATEWAY.split("CREATE TABLE gateway_call")


@pytest.mark.parametrize(
    ("schema", "column", "members"),
    [
        (WIDER_STATES, "state", set(PaymentState)),
        (PAYMENTS, "method", set(PaymentMethod)),
        # Said by a tombstone, which has no refusal of its own.
        (PAYMENTS, "refusal", set(PaymentRefusal) - {PaymentRefusal.ALREADY_REFUNDED}),
        (CALLS, "kind", set(CallKind)),
        (CALLS, "state", set(CallState)),
    ],
)
def test_enum_equals_check(schema: str, column: str, members: set[str]) -> None:
    (listed,) = re.findall(rf"CHECK \({column} IN \(([^)]*)\)\)", schema)
    assert set(re.findall(r"'([^']+)'", listed)) == members
