"""The scripts of the gates on a real server, whatever stands at their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from coupon.gates import GATES, Answer, Ask, Gate

if TYPE_CHECKING:
    from coupon.gates import Gates

Coupons: TypeAlias = Any  # of conftest.py


@pytest.fixture
def gates(coupons: Coupons) -> Gates:
    found: Gates = coupons.replica().doorkeeper.gates
    return found


@pytest.mark.parametrize("there", ["nothing", "a set", "a text"])
async def test_a_gate_is_written_whatever_stands_at_the_set_of_gates(
    there: str, gates: Gates, coupons: Coupons
) -> None:
    if there == "a set":
        await coupons.valkey.client.sadd(GATES, "other")
    elif there == "a text":
        await coupons.valkey.client.set(GATES, "other")
    gate = Gate(taken=1, limit=2, fence=3, changes=0)

    await gates.write([("C", gate)])

    assert await gates.read(["C"]) == [gate]
    assert await gates.admit([Ask("C", f"u{n}", f"c{n}", 3) for n in range(2)]) == [
        Answer.ADMITTED, Answer.FULL,
    ]  # fmt: skip
    assert "C" in await coupons.valkey.client.smembers(GATES)
