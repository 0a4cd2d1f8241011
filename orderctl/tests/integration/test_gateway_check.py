"""The audit's look at the gateway's book: what it finds, and where it can't look."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from orderctl.auditing import audit_everything
from orderctl.main import app
from shared.audit.gateway import CHECK, NO_GATEWAY, check_gateway
from shared.reconciliation import GatewayAccess
from shared.reconciliation import gateway as reading

from .conftest import API_KEY

if TYPE_CHECKING:
    import pytest

    from shared.testing.databases import Database

    from .conftest import FakeGateway, OurBook


def access(gateway: FakeGateway, key: str = API_KEY) -> GatewayAccess:
    return GatewayAccess(gateway.url, key)


async def test_books_that_agree_hold_and_what_is_open_is_no_violation(
    database: Database, gateway: FakeGateway, book: OurBook
) -> None:
    await book.call("o-1", "SUCCEEDED", reference=gateway.charge("o-1")["id"])
    await book.call("o-2", "UNKNOWN")
    check = await check_gateway(database.operator_dsn, access(gateway))
    assert check.ok
    assert (check.name, check.invariant, check.looked_at) == ("books_agree_with_gateway", 5, 3)


async def test_a_planted_second_capture_is_found(
    database: Database, gateway: FakeGateway, book: OurBook
) -> None:
    await book.call("o-1", "SUCCEEDED", reference=gateway.charge("o-1")["id"])
    gateway.charge("o-1", idempotencyKey="another")
    check = await check_gateway(database.operator_dsn, access(gateway))
    assert check.violations == (
        {
            "order_id": "o-1", "difference": "charged_twice", "key": "payment:o-1",
            "here": "charge SUCCEEDED 1,000 KRW ch_000001",
            "there": "charge captured 1,000 KRW ch_000001; charge captured 1,000 KRW ch_000002",
        },
    )  # fmt: skip


async def test_without_a_gateway_it_holds_where_none_was_ever_asked(
    database: Database, book: OurBook
) -> None:
    assert (await check_gateway(database.operator_dsn, None)).ok
    await book.call("o-1", "VOID")
    assert (await check_gateway(database.operator_dsn, None)).error == NO_GATEWAY


async def test_what_can_not_be_looked_at_is_no_success(
    database: Database, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FIRST_PAUSE_S", 0.0)
    for key, problem in (("", "GATEWAY_API_KEY is not set"), ("wrong", "answers 401")):
        check = await check_gateway(database.operator_dsn, access(gateway, key))
        assert problem in check.error
        assert "docs/runbooks/gateway-differs.md" in check.error
    async with database.connection() as connection:
        await connection.execute("REVOKE SELECT ON payment.gateway_call FROM operator")
    check = await check_gateway(database.operator_dsn, access(gateway))
    assert "InsufficientPrivilegeError" in check.error


async def test_an_audit_at_rest_includes_it_and_others_leave_it_out(
    database: Database, gateway: FakeGateway
) -> None:
    gateway.charge("o-1")
    report = await audit_everything(database.operator_dsn, None, gateway=access(gateway))
    assert [check.name for check in report.violated] == [CHECK.name]
    report = await audit_everything(
        database.operator_dsn, None, gateway=access(gateway), only_always=True
    )
    assert CHECK.name not in {check.name for check in report.checks}


async def test_the_command_takes_the_gateway_from_its_settings(
    database: Database, gateway: FakeGateway
) -> None:
    gateway.charge("o-1")
    environment = {
        "DATABASE_URL": database.operator_dsn, "KAFKA_BOOTSTRAP_SERVERS": "", "REDIS_URL": "",
        "GATEWAY_URL": gateway.url, "GATEWAY_API_KEY": API_KEY,
    }  # fmt: skip
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit"], env=environment)
    assert result.exit_code == 1
    told = " ".join(result.stdout.split())
    assert "5 VIOLATED books_agree_with_gateway (gateway, at rest)" in told
    assert "order_id=o-1 difference=unknown_to_us" in told
