"""Payments, their calls to the gateway and the operator's `ask`, on Postgres."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from payment.api import PaymentsApi, queries
from payment.calls import Pace
from payment.settler import Inflow, Settler
from shared.admin import admin_app
from shared.database.pool import connect_pool
from shared.pipeline.work import Work
from shared.testing.replicas import RecordingRelay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.database import Pool
    from shared.pipeline.relay import Relay
    from shared.testing.databases import Database

T0 = "'2026-01-31 09:00Z'::timestamptz"
STATES = (
    "WAITING", "INTENDED", "UNKNOWN", "ABSENT", "WATCHED", "SUCCEEDED", "DECLINED", "VOID",
    "QUARANTINED",
)  # fmt: skip
OPEN = {"WAITING", "INTENDED", "UNKNOWN", "QUARANTINED"}


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with connect_pool(database.dsn("payment"), name="api", max_connections=4) as pool:
        yield pool


@pytest.fixture
async def admin(pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """The routes on the test's database; the circuit to the gateway is half open."""
    relay = cast("Relay", RecordingRelay("payment-0"))
    settler = Settler(
        Inflow(), Work(pool, relay, lease_s=30), None, lambda: pool, currency="KRW", pace=Pace(),
        keep_s=5.0,
    )  # fmt: skip
    app = admin_app({}, PaymentsApi(pool, lambda: "half_open", settler.close).routes())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://admin"
    ) as client:
        yield client


async def insert(pool: Pool, table: str, row: dict[str, str]) -> None:
    """A row whose values are SQL."""
    await pool.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")


async def payment(pool: Pool, order_id: str, state: str = "PENDING", **columns: str) -> None:
    """Of 1,200 by the gateway, 200 of it in points."""
    is_taken = state in ("CAPTURED", "REFUNDING", "REFUNDED")
    row = {
        "order_id": f"'{order_id}'", "state": f"'{state}'", "user_id": "'ann'", "amount": "1200",
        "currency": "'KRW'", "method": "'gateway'", "points": "200",
        "captured": "1200" if is_taken else "0",
        "refunded": "1200" if state == "REFUNDED" else "0",
        "refusal": "'payment_declined'" if state == "REFUSED" else "NULL",
        "fingerprint_version": "1", "fingerprint": "decode(repeat('ab', 16), 'hex')",
        "created_at": T0,
    }  # fmt: skip
    await insert(pool, "payment", row | columns)


async def call(pool: Pool, order_id: str, state: str, kind: str = "charge", **columns: str) -> None:
    prefix = "payment" if kind == "charge" else "refund"
    row = {
        "key": f"'{prefix}:{order_id}'", "order_id": f"'{order_id}'", "kind": f"'{kind}'",
        "state": f"'{state}'", "user_id": "'ann'", "amount": "1000", "currency": "'KRW'",
        "attempt": "1", "sends": "1", "command_id": f"'{order_id}:charge:do'",
        "traceparent": "''", "created_at": T0,
        "next_at": "now() + interval '1 h'" if state in ("INTENDED", "UNKNOWN") else "NULL",
        "quarantine": "'1300 KRW was captured'" if state == "QUARANTINED" else "NULL",
    }  # fmt: skip
    await insert(pool, "gateway_call", row | columns)


async def stored(pool: Pool, order_id: str, kind: str = "charge") -> tuple[Any, ...]:
    """State, quarantine and whether it is due."""
    row = await pool.fetchrow(
        "SELECT state, quarantine, coalesce(next_at <= now(), false) FROM gateway_call"
        " WHERE order_id = $1 AND kind = $2", order_id, kind,
    )  # fmt: skip
    assert row is not None
    return tuple(row)


async def pages(admin: httpx.AsyncClient, **asked: Any) -> list[list[str]]:
    """The orders of each page, to the last one."""
    found = []
    while True:
        answer = (await admin.get("/payments", params=asked)).json()
        found.append([one["orderId"] for one in answer["payments"]])
        if answer["next"] is None:
            return found
        asked["after"] = answer["next"]


async def test_every_statement_fits_the_schema_and_none_reads_all_of_a_table(
    database: Database,
) -> None:
    """A plan that reads a whole table although it may not is one that has no other way."""
    async with database.connection("payment") as connection:
        await connection.execute(
            "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan"
        )
        for statement in queries:
            await connection.execute(f"PREPARE looked_at AS {statement.sql}")
            nulls = ", ".join(["NULL"] * len(statement.parameters))
            arguments = f"({nulls})" if nulls else ""
            plan = await connection.fetch(f"EXPLAIN EXECUTE looked_at{arguments}")
            await connection.execute("DEALLOCATE looked_at")
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan" not in text, f"{statement.name}:\n{text}"
            assert "Index" in text, f"{statement.name}:\n{text}"


async def test_pages_hold_each_payment_once_in_key_order(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    ids = [f"o-{number:02}" for number in range(7)]
    for number, one in enumerate(ids[::-1]):
        await payment(pool, one, "CAPTURED" if number % 2 else "REFUSED")
    assert await pages(admin, limit=3) == [ids[:3], ids[3:6], ids[6:]]
    assert await pages(admin, limit=7) == [ids, []]
    assert await pages(admin, after="o-04") == [ids[5:]]
    assert await pages(admin, state="CAPTURED", limit=2) == [[ids[1], ids[3]], [ids[5]]]
    assert await pages(admin, state="PENDING") == [[]]


async def test_open_is_what_nobody_knows_or_a_person_has_to_look_at(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    for number, state in enumerate(STATES):
        await payment(pool, state, "PENDING")
        at = f"{T0} - {number} * interval '1 s'"
        await call(pool, state, state, created_at=at)
    await payment(pool, "wallet", "CAPTURED", method="'wallet'")
    due = "now() + interval '15 s'"
    await payment(pool, "retried", "PENDING")
    await call(pool, "retried", "ABSENT", next_at=due)
    await payment(pool, "watched", "TOMBSTONE")
    await call(pool, "watched", "WATCHED", next_at=due)
    await call(pool, "watched", "VOID", "refund")
    wanted = sorted(OPEN | {"retried"})
    found = [one for page in await pages(admin, open=True, limit=2) for one in page]
    assert sorted(found) == wanted
    assert found == [one for page in await pages(admin, open=True) for one in page]
    oldest = (await admin.get("/payments?open=true&oldest=true&limit=2")).json()
    assert [one["orderId"] for one in oldest["payments"]] == ["QUARANTINED", "UNKNOWN"]
    assert oldest["next"] is None
    assert await pages(admin, open=True, state="CANCELLING") == [[]]


async def test_a_payment_is_told_with_its_calls_and_entries(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    await payment(pool, "o-1", "REFUNDING")
    await call(
        pool, "o-1", "SUCCEEDED", reference="'ch_1'", first_sent_at=T0,
        expires_at=f"{T0} + interval '10 s'", attempt="2", sends="2",
    )  # fmt: skip
    await call(pool, "o-1", "INTENDED", "refund", sends="0", attempt="0",
               next_at=f"{T0} + interval '1 h'", owner="'payment-0'")  # fmt: skip
    entries = [
        ("payment:o-1", "house:revenue", 1200), ("payment:o-1", "house:held", -200),
        ("payment:o-1", "house:gateway", -1000), ("hold:o-1", "points:ann", -200),
        ("payment:o-2", "house:revenue", 7), ("top-up:o-1", "wallet:ann", 5),
    ]  # fmt: skip
    await pool.executemany(f"INSERT INTO ledger_entry VALUES ($1, $2, $3, 'KRW', {T0})", entries)
    answer = await admin.get("/payments/o-1")
    found = answer.json()
    moment = "2026-01-31T09:00:00.000Z"
    told = sorted((one["transaction"], one["account"], one["amount"]) for one in found["entries"])
    assert told == sorted(entries[:4])
    assert found["entries"][0]["at"] == moment
    del found["entries"]
    charge, refund = found["calls"]
    assert found == {
        "orderId": "o-1", "state": "REFUNDING", "userId": "ann", "amount": 1200,
        "currency": "KRW", "method": "gateway", "points": 200, "captured": 1200, "refunded": 0,
        "refusal": None, "isLate": False, "createdAt": moment, "calls": [charge, refund],
    }  # fmt: skip
    assert charge == {
        "key": "payment:o-1", "kind": "charge", "state": "SUCCEEDED", "amount": 1000,
        "currency": "KRW", "reference": "ch_1", "quarantine": None, "sends": 2, "attempt": 2,
        "owner": None, "firstSentAt": moment, "expiresAt": "2026-01-31T09:00:10.000Z",
        "nextAt": None, "createdAt": moment, "closed": None,
    }  # fmt: skip
    assert (refund["state"], refund["owner"], refund["nextAt"]) == (
        "INTENDED", "payment-0", "2026-01-31T10:00:00.000Z",
    )  # fmt: skip
    listed = (await admin.get("/payments")).json()["payments"]
    assert listed == [found]


async def test_a_tombstone_alone_has_nothing_to_tell(admin: httpx.AsyncClient, pool: Pool) -> None:
    nulls = dict.fromkeys(
        ("user_id", "amount", "currency", "method", "points", "fingerprint_version", "fingerprint"),
        "NULL",
    )
    await payment(pool, "o-1", "TOMBSTONE", **nulls)
    found = (await admin.get("/payments/o-1")).json()
    assert (found["amount"], found["calls"], found["entries"]) == (None, [], [])


@pytest.mark.parametrize(
    ("state", "of", "then"),
    [
        ("INTENDED", "PENDING", "INTENDED"),
        ("UNKNOWN", "CANCELLING", "UNKNOWN"),
        ("ABSENT", "PENDING", "ABSENT"),
        ("WATCHED", "TOMBSTONE", "WATCHED"),
        ("QUARANTINED", "PENDING", "UNKNOWN"),
        ("QUARANTINED", "CANCELLING", "UNKNOWN"),
        # of these nothing is ever sent again
        ("QUARANTINED", "TOMBSTONE", "WATCHED"),
        ("QUARANTINED", "REFUSED", "WATCHED"),
    ],
)
async def test_what_is_not_final_is_asked_anew_at_once(
    admin: httpx.AsyncClient, pool: Pool, state: str, of: str, then: str
) -> None:
    await payment(pool, "o-1", of)
    await call(pool, "o-1", state)
    await payment(pool, "o-2")
    await call(pool, "o-2", "UNKNOWN")
    answer = await admin.post("/payments/o-1/ask")
    assert answer.status_code == 202
    (asked,) = answer.json()["calls"]
    assert (answer.json()["orderId"], asked["state"], asked["quarantine"]) == ("o-1", then, None)
    assert await stored(pool, "o-1") == (then, None, True)
    assert await stored(pool, "o-2") == ("UNKNOWN", None, False)


@pytest.mark.parametrize(
    ("of", "status"), [("REFUNDING", 202), ("CANCELLING", 409), ("TOMBSTONE", 409)]
)
async def test_a_quarantined_refund_is_asked_about_where_it_is_owed(
    admin: httpx.AsyncClient, pool: Pool, of: str, status: int
) -> None:
    await payment(pool, "o-1", of)
    await call(pool, "o-1", "VOID")
    await call(pool, "o-1", "QUARANTINED", "refund")
    answer = await admin.post("/payments/o-1/ask")
    assert answer.status_code == status
    if status == 202:
        assert await stored(pool, "o-1", "refund") == ("UNKNOWN", None, True)
        return
    why = "1300 KRW was captured"
    assert await stored(pool, "o-1", "refund") == ("QUARANTINED", why, False)
    told = f"the refund is QUARANTINED ({why}), and its payment owes none"
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("state", ["WAITING", "SUCCEEDED", "DECLINED", "VOID"])
async def test_what_is_final_or_waits_is_left_alone(
    admin: httpx.AsyncClient, pool: Pool, state: str
) -> None:
    await payment(pool, "o-1")
    await call(pool, "o-1", state)
    answer = await admin.post("/payments/o-1/ask")
    assert (answer.status_code, answer.json()["title"]) == (409, "Nothing to ask")
    told = "the charge waits for" if state == "WAITING" else f"o-1: the charge is {state}"
    assert told in answer.json()["detail"]
    assert await stored(pool, "o-1") == (state, None, False)


async def test_of_two_calls_the_one_that_can_be_asked_is(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    await payment(pool, "o-1", "CANCELLING")
    await call(pool, "o-1", "UNKNOWN")
    await call(pool, "o-1", "WAITING", "refund")
    answer = await admin.post("/payments/o-1/ask")
    assert [one["key"] for one in answer.json()["calls"]] == ["payment:o-1"]
    assert await stored(pool, "o-1", "refund") == ("WAITING", None, False)


async def test_f27_who_has_the_lease_is_left_to_it_until_it_ends(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    ended = f"{T0} + interval '10 s'"
    for order_id, until in (("held", "now() + interval '1 h'"), ("dead", ended)):
        await payment(pool, order_id)
        await call(pool, order_id, "INTENDED", owner="'payment-0'", next_at=until)
    answer = await admin.post("/payments/held/ask")
    assert answer.status_code == 409
    assert "payment-0 asks about the charge right now" in answer.json()["detail"]
    assert await stored(pool, "held") == ("INTENDED", None, False)
    assert (await admin.post("/payments/dead/ask")).status_code == 202
    assert await stored(pool, "dead") == ("INTENDED", None, True)
    end = await pool.fetchval(f"SELECT next_at = {ended} FROM gateway_call WHERE order_id = 'dead'")
    assert end is True, "until then the gateway took what was sent under the lease"


async def test_f27_a_lease_that_is_being_taken_is_respected(
    admin: httpx.AsyncClient, pool: Pool, database: Database
) -> None:
    """The statement waits for who changes the row, and looks at it again then."""
    await payment(pool, "o-1")
    await call(pool, "o-1", "UNKNOWN")
    async with database.connection("payment") as courier:
        taking = courier.transaction()
        await taking.start()
        await courier.execute(
            "UPDATE gateway_call SET owner = 'payment-1', next_at = now() + interval '1 h'"
        )
        asking = asyncio.create_task(admin.post("/payments/o-1/ask"))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        async with asyncio.timeout(10), database.connection() as watching:
            while not await watching.fetchval(waits):
                pass
        await taking.commit()
    assert (await asking).status_code == 409
    assert await stored(pool, "o-1") == ("UNKNOWN", None, False)


CLOSE = {"operator": "ann", "note": "gave 1,300 back"}


async def test_f32_what_is_quarantined_is_closed_with_who_and_why(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    await payment(pool, "o-1", points="0", amount="1000")
    await call(pool, "o-1", "QUARANTINED", reference="'ch_1'")
    answer = await admin.post("/payments/o-1/close", json=CLOSE)
    found = answer.json()
    assert (answer.status_code, found["state"], found["refusal"]) == (
        200, "REFUSED", "payment_declined",
    )  # fmt: skip
    (charge,) = found["calls"]
    assert (charge["state"], charge["quarantine"]) == ("DECLINED", None)
    at = charge["closed"].pop("at")
    assert charge["closed"] == {"by": "ann", "note": "gave 1,300 back"}
    assert datetime.fromisoformat(at) > datetime.now(UTC) - timedelta(minutes=1)
    assert (await admin.get("/payments?open=true")).json()["payments"] == []
    again = await admin.post("/payments/o-1/close", json=CLOSE)
    assert (again.status_code, again.json()["title"]) == (409, "Nothing to close")
    assert again.json()["detail"] == "o-1: the charge is DECLINED"


@pytest.mark.parametrize("state", sorted(set(STATES) - {"QUARANTINED"}))
async def test_what_is_not_quarantined_is_not_closed(
    admin: httpx.AsyncClient, pool: Pool, state: str
) -> None:
    await payment(pool, "o-1")
    await call(pool, "o-1", state)
    answer = await admin.post("/payments/o-1/close", json=CLOSE)
    assert (answer.status_code, answer.json()["detail"]) == (409, f"o-1: the charge is {state}")
    assert (await stored(pool, "o-1"))[0] == state


async def test_a_refund_is_not_closed_before_its_charge_is_known(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    await payment(pool, "o-1", "CANCELLING")
    await call(pool, "o-1", "UNKNOWN")
    await call(pool, "o-1", "QUARANTINED", "refund")
    answer = await admin.post("/payments/o-1/close", json=CLOSE)
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "o-1: the charge is UNKNOWN; the refund is QUARANTINED, and waits for the outcome of the"
        " charge"
    )


async def test_what_is_not_there_is_not_closed(admin: httpx.AsyncClient, pool: Pool) -> None:
    await payment(pool, "wallet", "CAPTURED", method="'wallet'")
    assert (await admin.post("/payments/o-404/close", json=CLOSE)).status_code == 404
    answer = await admin.post("/payments/wallet/close", json=CLOSE)
    assert (answer.status_code, answer.json()["detail"]) == (
        409, "wallet: the gateway was never asked for it",
    )  # fmt: skip


async def test_what_is_not_there_is_unknown(admin: httpx.AsyncClient, pool: Pool) -> None:
    await payment(pool, "wallet", "CAPTURED", method="'wallet'")
    assert (await admin.get("/payments/o-404")).status_code == 404
    assert (await admin.post("/payments/o-404/ask")).status_code == 404
    answer = await admin.post("/payments/wallet/ask")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "wallet: the gateway was never asked for it"


async def test_the_gateway_is_told_by_what_is_not_final(
    admin: httpx.AsyncClient, pool: Pool
) -> None:
    nothing = {"breaker": "half_open", "calls": {}, "oldestOpenAgeSeconds": None}
    assert (await admin.get("/gateway")).json() == nothing
    numbers = itertools.count()
    for state in (*STATES, *STATES[:3]):
        order_id = f"o-{next(numbers)}"
        await payment(pool, order_id)
        age = "now() - interval '60 s'" if state == "QUARANTINED" else "now()"
        await call(pool, order_id, state, created_at=age)
    await payment(pool, "watched", "TOMBSTONE")
    ancient = {"created_at": "now() - interval '1 d'", "next_at": "now() + interval '15 s'"}
    await call(pool, "watched", "WATCHED", **ancient)
    found = (await admin.get("/gateway")).json()
    assert found["calls"] == {
        "WAITING": 2, "INTENDED": 2, "UNKNOWN": 2, "QUARANTINED": 1, "WATCHED": 1,
    }  # fmt: skip
    assert 60 <= found["oldestOpenAgeSeconds"] < 3_600


async def test_a_wallet_is_told(admin: httpx.AsyncClient, pool: Pool) -> None:
    await insert(
        pool, "wallet",
        {"user_id": "'ann'", "currency": "'KRW'", "balance": "50000", "points": "300"},
    )  # fmt: skip
    assert (await admin.get("/wallets/ann")).json() == {
        "userId": "ann", "balance": 50_000, "points": 300, "currency": "KRW",
    }  # fmt: skip
    answer = await admin.get("/wallets/bob")
    assert (answer.status_code, answer.json()["title"]) == (404, "Unknown wallet")
