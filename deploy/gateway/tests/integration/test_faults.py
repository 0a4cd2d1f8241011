"""Each fault, as the caller and the book see it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.testing.signals import eventually

from .conftest import WITHIN_S

if TYPE_CHECKING:
    from .conftest import Simulator

HOURS = 7_200


async def leave(request: asyncio.Task[Any]) -> None:
    """As a client whose time is up: the connection is closed."""
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def free(simulator: Simulator) -> httpx.Response:
    """The first answer but 409: the simulator has noticed that the other client left."""
    return await eventually(
        simulator.charge,
        within_s=WITHIN_S,
        accept=lambda answer: answer.status_code != 409,
        describe="the key is free",
    )


async def test_latency(simulator: Simulator) -> None:
    await simulator.faults({"fault": "latency", "seconds": HOURS})
    waiting = asyncio.create_task(simulator.charge())
    await simulator.has_struck()
    assert await simulator.by_key() == []
    assert (await simulator.charge()).json()["code"] == "idempotency_key_in_flight"
    await simulator.faults({"fault": "latency", "seconds": 0.01})
    assert (await simulator.charge("payment:o-2")).status_code == 201
    await leave(waiting)


async def test_f24_hang_after_charge(simulator: Simulator) -> None:
    await simulator.faults({"fault": "hang_after_charge", "times": 1})
    waiting = asyncio.create_task(simulator.charge())
    (charge,) = await eventually(simulator.by_key, within_s=WITHIN_S)
    assert not waiting.done()
    again = await simulator.charge()
    assert (again.status_code, again.json()) == (200, charge)
    await leave(waiting)
    await simulator.faults({"fault": "hang_after_charge", "seconds": 0.01})
    assert (await simulator.charge("payment:o-2")).status_code == 504
    assert len(await simulator.by_key("payment:o-2")) == 1


async def test_f25_hang_before_charge(simulator: Simulator) -> None:
    await simulator.faults({"fault": "hang_before_charge", "times": 1})
    waiting = asyncio.create_task(simulator.charge())
    await simulator.has_struck()
    assert (await simulator.charge()).json()["code"] == "idempotency_key_in_flight"
    await leave(waiting)
    assert (await free(simulator)).status_code == 201, "not charged by the one that left"
    assert (await simulator.sums())["charges"] == {"captured": 1}


async def test_f28_error_after_charge(simulator: Simulator) -> None:
    await simulator.faults({"fault": "error_after_charge", "times": 1})
    assert (await simulator.charge()).status_code == 500
    assert len(await simulator.by_key()) == 1
    assert (await simulator.charge()).status_code == 200


async def test_f28_error_before_charge(simulator: Simulator) -> None:
    await simulator.faults({"fault": "error_before_charge", "times": 1})
    assert (await simulator.charge()).status_code == 500
    assert await simulator.by_key() == []
    assert (await simulator.charge()).status_code == 201


async def test_f28_throttle(simulator: Simulator) -> None:
    await simulator.faults({"fault": "throttle", "seconds": 1.5, "times": 1})
    answer = await simulator.charge()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert answer.json()["code"] == "too_many_requests"
    assert (await simulator.charge()).status_code == 201


async def test_f28_decline(simulator: Simulator) -> None:
    await simulator.faults({"fault": "decline", "times": 1, "declineCode": "stolen_card"})
    for replayed in (None, "true"):
        answer = await simulator.charge()
        assert (answer.status_code, answer.json()["code"]) == (402, "card_declined")
        assert answer.headers.get("Idempotent-Replayed") == replayed
        charge = answer.json()["charge"]
        assert (charge["status"], charge["declineCode"]) == ("declined", "stolen_card")
    assert await simulator.by_key() == [charge]
    refused = await simulator.refund(charge["id"])
    assert (refused.status_code, refused.json()["code"]) == (422, "charge_not_captured")


@pytest.mark.parametrize(
    ("rule", "booked"),
    [
        ({"fault": "wrong_amount", "by": 300}, {"amount": 1_500}),
        ({"fault": "wrong_currency"}, {"currency": "USD"}),
    ],
)
async def test_f32_something_else_is_charged(
    simulator: Simulator, rule: dict[str, Any], booked: dict[str, Any]
) -> None:
    await simulator.faults(rule)
    charge = (await simulator.charge()).json()
    assert charge.items() >= booked.items()
    assert await simulator.by_key() == [charge]
    assert (await simulator.charge()).json() == charge, "the same request, a replay"
    refunded = {"amount": charge["amount"], "currency": charge["currency"]}
    await simulator.faults()
    assert (await simulator.refund(charge["id"], **refunded)).status_code == 201


async def test_f32_something_else_is_refunded(simulator: Simulator) -> None:
    id_ = (await simulator.charge()).json()["id"]
    await simulator.faults({"fault": "wrong_amount", "by": 300})
    assert (await simulator.refund(id_)).json()["amount"] == 900
    assert (await simulator.by_key())[0]["refunded"] == 900


@pytest.mark.parametrize("how", ["202", "504", "hang"])
async def test_f26_late(simulator: Simulator, how: str) -> None:
    await simulator.faults({"fault": "late", "seconds": HOURS, "how": how, "times": 1})
    request = asyncio.create_task(simulator.charge())
    if how == "hang":
        await simulator.has_struck()
        await eventually(lambda: late(simulator), within_s=WITHIN_S)
        await leave(request)
    else:
        assert (await request).status_code == int(how)
    assert await simulator.by_key() == []
    assert (await simulator.client.get("/v1/charges")).json()["charges"] == []
    simulator.kill()
    simulator.edit("UPDATE late SET due_ms = 0")
    await simulator.start()
    (charge,) = await eventually(simulator.by_key, within_s=WITHIN_S)
    again = await simulator.charge()
    assert (again.status_code, again.json()) == (200, charge)
    assert await late(simulator) == 0


async def late(simulator: Simulator) -> int:
    return int((await simulator.sums())["late"])


async def test_f26_a_late_refund(simulator: Simulator) -> None:
    id_ = (await simulator.charge()).json()["id"]
    await simulator.faults({"fault": "late", "seconds": 0, "how": "202", "on": ["refund"]})
    assert (await simulator.refund(id_)).status_code == 202
    (refund,) = await eventually(
        lambda: simulator.by_key("refund:o-1", "refunds"), within_s=WITHIN_S
    )
    assert refund["charge"] == id_


async def test_processing_outlives_a_kill(simulator: Simulator) -> None:
    await simulator.faults({"fault": "processing", "seconds": HOURS})
    answer = await simulator.charge()
    assert (answer.status_code, answer.json()["status"]) == (201, "processing")
    assert (await simulator.refund(answer.json()["id"])).json()["code"] == "charge_not_captured"
    simulator.kill()
    simulator.edit("UPDATE charge SET settle_ms = 0")
    await simulator.start()
    await eventually(
        simulator.by_key,
        within_s=WITHIN_S,
        accept=lambda found: found[0]["status"] == "captured",
        describe="the charge is captured",
    )
    refund = (await simulator.refund(answer.json()["id"])).json()
    assert refund["status"] == "processing"
    assert (await simulator.by_key())[0]["refunded"] == 1_200


async def test_f33_down(simulator: Simulator) -> None:
    await simulator.faults({"fault": "down"})
    for request in (simulator.charge(), simulator.client.get("/v1/charges/ch_1")):
        assert (await request).status_code == 503
    await simulator.faults({"fault": "down", "how": "close"})
    for request in (simulator.charge(), simulator.client.get("/v1/charges")):
        with pytest.raises(httpx.TransportError):
            await request
    assert await simulator.struck() == [2]
    assert (await simulator.client.get("/readyz")).status_code == 200
    await simulator.client.delete("/admin/faults")
    assert await simulator.struck() == []
    assert (await simulator.charge()).status_code == 201


@pytest.mark.parametrize(
    ("fault", "status"),
    [("error_before_charge", 500), ("error_after_charge", 500), ("throttle", 429)],
)
async def test_inquiries_have_faults_where_asked(
    simulator: Simulator, fault: str, status: int
) -> None:
    await simulator.faults({"fault": fault, "on": ["inquiry"], "onlyKeys": ["payment:o-1"]})
    assert (await simulator.charge()).status_code == 201
    for key, expected in (("payment:o-1", status), ("payment:o-2", 200)):
        answer = await simulator.client.get("/v1/charges", params={"idempotencyKey": key})
        assert answer.status_code == expected


async def test_an_inquiry_that_hangs(simulator: Simulator) -> None:
    rule = {"fault": "hang_before_charge", "on": ["inquiry"], "seconds": 0.01}
    await simulator.faults(rule)
    answer = await simulator.client.get("/v1/refunds", params={"idempotencyKey": "x"})
    assert answer.status_code == 504


async def test_only_the_keys_that_are_named(simulator: Simulator) -> None:
    await simulator.faults(
        {"fault": "decline", "onlyKeys": ["payment:a"]},
        {"fault": "throttle", "keyPrefix": "payment:b"},
    )
    statuses = [(await simulator.charge(f"payment:{n}")).status_code for n in ("a", "b1", "c")]
    assert statuses == [402, 429, 201]
    assert await simulator.struck() == [1, 1]


async def test_what_is_no_fault_is_refused_and_changes_nothing(simulator: Simulator) -> None:
    await simulator.faults({"fault": "throttle"})
    for content in ('{"rules": [{"fault": "fire"}]}', "[", '{"seed": "x"}'):
        answer = await simulator.client.put("/admin/faults", content=content)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_faults")
    shown = (await simulator.client.get("/admin/faults")).json()
    assert [rule["fault"] for rule in shown["rules"]] == ["throttle"]


async def test_the_same_seed_strikes_the_same_keys_again(simulator: Simulator) -> None:
    document = {"seed": 7, "rules": [{"fault": "throttle", "share": 0.5}]}
    runs = []
    for _ in range(2):
        await simulator.client.put("/admin/faults", json=document)
        answers = await asyncio.gather(*(simulator.charge(f"payment:{n}") for n in range(20)))
        runs.append([answer.status_code == 429 for answer in answers])
    assert runs[0] == runs[1]
    assert 0 < sum(runs[0]) < 20
