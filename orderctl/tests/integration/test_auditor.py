"""Passes without end: what they find, what they tell, and what they leave alone."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from orderctl import auditor
from orderctl.auditor import Auditor, pause_s
from shared.testing.ports import ReservedPort
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.testing.databases import Database

PLACED = json.dumps({"lines": [["P001", 1]]})
LINE = '[1,"RESERVING","test","2026-01-01",null]\n'


async def order(database: Database, order_id: str, *, waiting: bool = False) -> None:
    """An order under way, to which a reply is owed; counted as such only if `waiting`."""
    async with database.connection("orders") as connection:
        await connection.execute(
            "INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version, accepted_at,"
            " placed, definition_version, state, version, timer_at, progress, history, waiting)"
            " VALUES ($1, 'ann', decode(repeat('00', 16), 'hex'), 1, now(), $2, 1, 'RESERVING', 1,"
            """ now(), '{"steps": {"reserve": "sent"}}', $3, $4)""",
            order_id, PLACED, LINE, waiting,
        )  # fmt: skip


async def mend(database: Database, order_id: str) -> None:
    async with database.connection("orders") as connection:
        await connection.execute("UPDATE saga SET waiting = true WHERE order_id = $1", order_id)


def counted(invariant: int) -> float | None:
    return REGISTRY.get_sample_value("invariant_violations", {"invariant": str(invariant)})


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the auditor logs; its logger must not remember an earlier configuration."""
    with capture_logs() as entries:
        monkeypatch.setattr(auditor, "_log", auditor.get_logger("test"))
        yield entries


async def test_slice_by_slice_every_order_is_looked_at(database: Database) -> None:
    for number in range(5):
        await order(database, f"o-{number}", waiting=True)
    await order(database, "o-9")
    watch = Auditor(database.operator_dsn, every_s=60, orders_per_slice=2)
    found = []
    for _ in range(3):
        report = await watch.pass_once()
        found.append([row["order_id"] for check in report.violated for row in check.violations])
        assert not report.unchecked
    assert found == [[], [], ["o-9"]]
    assert counted(7) == 1
    # what was found is looked at again with every pass, until it is mended
    assert [check.name for check in (await watch.pass_once()).violated] == ["waiting_is_counted"]
    await mend(database, "o-9")
    assert (await watch.pass_once()).ok
    assert counted(7) == 0


async def test_a_round_with_a_slice_that_failed_is_not_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await order(database, f"o-{number}", waiting=True)
    rounds: list[int] = []
    monkeypatch.setattr(auditor.metrics.ROUND, "set_to_current_time", lambda: rounds.append(1))
    watch = Auditor(database.operator_dsn, every_s=60, orders_per_slice=2)
    for fails in (False, True, False):
        async with database.connection() as connection:
            verb, to = ("REVOKE", "FROM") if fails else ("GRANT", "TO")
            await connection.execute(f"{verb} SELECT ON orders.saga_history {to} operator")
        assert bool((await watch.pass_once()).unchecked) is fails
    assert rounds == [], "the second of three slices failed"
    for _ in range(3):
        await watch.pass_once()
    assert rounds == [1]


async def test_an_order_that_has_just_moved_is_looked_at_at_once(database: Database) -> None:
    for number in range(5):
        await order(database, f"o-{number}", waiting=True)
    await order(database, "o-9")
    async with database.connection("orders") as connection:
        await connection.execute(
            "INSERT INTO outbox (owner, public, lease_until, published_at, messages) VALUES"
            " ('order-orchestrator-0', true, now(), now(), $1)",
            '[["orders.events.v1", "o-9", "OrderAccepted", "o-9:OrderAccepted", "", "{}"]]',
        )
    watch = Auditor(database.operator_dsn, every_s=60, orders_per_slice=2)
    (check,) = (await watch.pass_once()).violated
    assert [row["order_id"] for row in check.violations] == ["o-9"]


async def test_one_line_for_each_violation_while_it_lasts(
    database: Database, logged: list[Any]
) -> None:
    watch = Auditor(database.operator_dsn, every_s=60)
    await order(database, "o-1")
    await watch.pass_once()
    await watch.pass_once()
    (line,) = logged
    assert line["event"] == "invariant_violated"
    assert (line["invariant"], line["check"], line["new"]) == (7, "waiting_is_counted", 1)
    assert line["examples"] == [{"order_id": "o-1"}]
    await order(database, "o-2")
    await watch.pass_once()
    assert [entry["examples"] for entry in logged[1:]] == [[{"order_id": "o-2"}]]
    await mend(database, "o-1")
    await watch.pass_once()
    assert len(logged) == 2
    await mend(database, "o-2")
    await watch.pass_once()
    assert logged[-1]["event"] == "invariant_holds_again"
    await mend(database, "o-2")
    await watch.pass_once()
    assert len(logged) == 3


async def test_f69_a_users_id_stays_out_of_the_log(database: Database, logged: list[Any]) -> None:
    async with database.connection("payment") as connection:
        await connection.execute("INSERT INTO wallet VALUES ('canary', 'KRW', 5)")
    await Auditor(database.operator_dsn, every_s=60).pass_once()
    assert [entry["check"] for entry in logged] == ["balances_agree"]
    assert "canary" not in str(logged)


async def test_what_could_not_be_looked_at_keeps_its_number_and_is_told(
    database: Database, logged: list[Any]
) -> None:
    watch = Auditor(database.operator_dsn, every_s=60)
    await order(database, "o-1")
    await watch.pass_once()
    assert await watch.problem() is None
    async with database.connection() as connection:
        await connection.execute("REVOKE SELECT ON orders.saga_history FROM operator")
        await connection.execute("REVOKE SELECT ON payment.wallet FROM operator")
    report = await watch.pass_once()
    assert "payment/balances_agree" in (await watch.problem() or "")
    assert REGISTRY.get_sample_value("audit_unchecked") == len(report.unchecked) > 0
    assert counted(7) == 1
    assert [entry["event"] for entry in logged] == ["invariant_violated", "audit_incomplete"]


@pytest.mark.parametrize(("took_s", "pause"), [(0.5, 59.5), (6, 54), (20, 180)])
def test_passes_take_a_tenth_of_the_time_at_most(took_s: float, pause: float) -> None:
    assert pause_s(60, took_s) == pytest.approx(pause)


async def test_it_serves_its_metrics_goes_on_and_ends_on_sigterm(database: Database) -> None:
    await order(database, "o-1")
    port = ReservedPort("127.0.0.1")
    number = port.port
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderctl.main", "audit", "--every", "0.1s",
        "--metrics-port", str(number), "--database-url", database.operator_dsn,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{number}") as client:

        async def metrics() -> dict[str, float]:
            try:
                text = (await client.get("/metrics")).text
            except httpx.TransportError:
                return {}
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

        finished = "audit_last_pass_timestamp_seconds"
        first = await eventually(
            metrics,
            within_s=90,
            describe="a pass has ended",
            accept=lambda found: found.get(finished, 0) > 0,
        )
        assert first['invariant_violations{invariant="7"}'] == 1
        assert first['invariant_violations{invariant="4"}'] == 0
        assert first["audit_last_pass_duration_seconds"] > 0
        await eventually(
            metrics,
            within_s=90,
            describe="another pass has ended",
            accept=lambda found: found.get(finished, 0) > first[finished],
        )
        assert (await client.get("/readyz")).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    port.release()
    assert process.returncode == 0
    lines = [json.loads(line) for line in err.decode().splitlines()]
    assert [line["event"] for line in lines] == ["invariant_violated"]
