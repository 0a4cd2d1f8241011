"""The HTTP contract, as payment's client relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from .conftest import Simulator


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, whose form is checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert {"code", "title", "detail", "status"} <= document.keys()
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]


async def test_a_charge_its_replay_and_its_inquiry(simulator: Simulator) -> None:
    answer = await simulator.charge(callbackUrl=None)
    charge = answer.json()
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers
    assert charge == {
        "id": charge["id"], "idempotencyKey": "payment:o-1", "status": "captured",
        "amount": 1_200, "currency": "KRW", "reference": "o-1", "customer": "ann",
        "refunded": 0, "declineCode": None, "createdAt": charge["createdAt"],
    }  # fmt: skip
    assert charge["id"].startswith("ch_")
    assert charge["createdAt"].endswith("Z")
    again = await simulator.charge()
    assert (again.status_code, again.json()) == (200, charge)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await simulator.by_key() == [charge]
    assert await simulator.by_key("payment:o-2") == []
    assert (await simulator.client.get(f"/v1/charges/{charge['id']}")).json() == charge
    assert problem(await simulator.client.get("/v1/charges/ch_1")) == (404, "charge_not_found")


async def test_a_key_stands_for_one_request(simulator: Simulator) -> None:
    charge = (await simulator.charge()).json()
    for other in ({"amount": 1_201}, {"reference": "o-2"}, {"callbackUrl": "http://127.0.0.1:1/"}):
        assert problem(await simulator.charge(**other)) == (422, "idempotency_key_reused")
    crossed = await simulator.refund(charge["id"], key="payment:o-1")
    assert problem(crossed) == (422, "idempotency_key_reused")
    for key in ("", "k" * 256):
        assert problem(await simulator.charge(key)) == (400, "idempotency_key_missing")
    assert (await simulator.charge("k" * 255)).status_code == 201


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": 2**53}, "amount"),
        ({"amount": 1.5}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": "1200"}, "amount"),
        ({"currency": "krw"}, "currency"),
        ({"reference": ""}, "reference"),
        ({"customer": None}, "customer"),
        ({"callbackUrl": "ftp://127.0.0.1/"}, "callbackUrl"),
        ({"callbackUrl": "http://127.0.0.1/ HTTP/1.1\r\nX: "}, "callbackUrl"),
        ({"discount": 5}, "discount"),
    ],
)
async def test_what_is_no_request_is_refused_by_field(
    simulator: Simulator, members: dict[str, Any], field: str
) -> None:
    answer = await simulator.charge(**members)
    assert problem(answer) == (400, "invalid_request")
    assert answer.json()["detail"].startswith(f"{field}: ")
    assert await simulator.by_key() == [], "a refusal leaves nothing behind"
    assert (await simulator.charge()).status_code == 201


async def test_who_has_no_key_gets_nowhere(simulator: Simulator) -> None:
    for headers in ({"Authorization": "Bearer other"}, {"Authorization": ""}):
        answer = await simulator.client.get("/v1/charges", headers=headers)
        assert problem(answer) == (401, "unauthorized")
    assert (await simulator.client.get("/v1/cards")).json()["code"] == "not_found"
    assert (await simulator.client.delete("/v1/charges")).json()["code"] == "method_not_allowed"


async def test_refunds_of_a_charge(simulator: Simulator) -> None:
    id_ = (await simulator.charge()).json()["id"]
    answer = await simulator.refund(id_, amount=700)
    refund = answer.json()
    assert answer.status_code == 201
    assert refund == {
        "id": refund["id"], "idempotencyKey": "refund:o-1", "charge": id_,
        "status": "succeeded", "amount": 700, "currency": "KRW",
        "createdAt": refund["createdAt"],
    }  # fmt: skip
    again = await simulator.refund(id_, amount=700)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert await simulator.by_key("refund:o-1", "refunds") == [refund]
    exceeding = await simulator.refund(id_, key="refund:more", amount=501)
    assert problem(exceeding) == (422, "refund_exceeds_charge")
    assert (await simulator.refund(id_, key="refund:more", amount=500)).status_code == 201
    foreign = await simulator.refund(id_, key="refund:x", currency="EUR")
    assert problem(foreign) == (400, "invalid_request")
    unknown = await simulator.refund("ch_1", key="refund:x")
    assert problem(unknown) == (404, "charge_not_found")
    assert (await simulator.by_key())[0]["refunded"] == 1_200
    assert (await simulator.sums())["refunded"] == {"KRW": 1_200}


async def test_the_book_page_by_page(simulator: Simulator) -> None:
    ids = [(await simulator.charge(f"payment:{n}")).json()["id"] for n in range(3)]
    await simulator.refund(ids[1])
    first = (await simulator.client.get("/v1/charges?limit=2")).json()
    assert [charge["id"] for charge in first["charges"]] == ids[:2]
    assert [len(charge["refunds"]) for charge in first["charges"]] == [0, 1]
    assert first["next"] == ids[1]
    rest = (await simulator.client.get(f"/v1/charges?startingAfter={ids[1]}&limit=2")).json()
    assert ([charge["id"] for charge in rest["charges"]], rest["next"]) == ([ids[2]], None)
    for query in ("limit=0", "limit=1001", "limit=many"):
        answer = await simulator.client.get(f"/v1/charges?{query}")
        assert problem(answer) == (400, "invalid_request")
    unknown = await simulator.client.get("/v1/charges?startingAfter=ch_9")
    assert problem(unknown) == (404, "charge_not_found")


async def test_what_the_book_adds_up_to(simulator: Simulator) -> None:
    await simulator.charge("payment:a", currency="EUR")
    await simulator.charge("payment:b", reference="same")
    await simulator.charge("payment:c", reference="same")
    sums = await simulator.sums()
    assert sums["charges"] == {"captured": 3}
    assert sums["captured"] == {"EUR": 1_200, "KRW": 2_400}
    assert sums["double_charges"] == 1


async def test_a_forgotten_key_makes_a_new_charge(simulator: Simulator) -> None:
    first = (await simulator.charge()).json()
    simulator.kill()
    simulator.edit("UPDATE key SET created_ms = created_ms - 86400000")
    await simulator.start()
    assert await simulator.by_key() == []
    second = await simulator.charge()
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    assert (await simulator.client.get(f"/v1/charges/{first['id']}")).json() == first
