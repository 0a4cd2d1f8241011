"""The checker is itself checked: every violation that is planted is found, and nothing else."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest

from shared.audit import Moment, Orders, Source, audit, check_pass
from shared.audit.invariants import load
from shared.testing.signals import Gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.audit import Report
    from shared.testing.databases import Database

    PackageWith = Callable[[str], str]

THROWAWAY = """
-- name: balances_are_not_negative
-- Invariant 4, always: no balance is negative.
SELECT user_id, balance FROM wallet WHERE balance < 0;

-- name: nothing_is_open
-- Invariant 6, at rest: every order has its outcome.
SELECT user_id FROM wallet WHERE is_open;
"""

PLANTS = {
    "outbox_is_published": (
        "INSERT INTO stock.outbox (owner, public, lease_until, messages) VALUES ('stock-0', false,"
        ' now(), \'[["stock.replies.v1", null, "StockReserved", "o-1:reserve:do"]]\')'
    ),
    "outbox_rows_say_something": (
        "INSERT INTO stock.outbox (owner, public, lease_until, published_at, messages)"
        " VALUES ('stock-0', true, now(), now(), '[]')"
    ),
    "schema_is_closed_to_other_services": "GRANT USAGE ON SCHEMA stock TO payment",
}
"""Invariant of the pipeline -> a statement that violates it."""


@pytest.fixture
def package_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageWith:
    """Makes a package of a name of its own that brings `sql` as its invariants."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(sql: str) -> str:
        package = tmp_path / f"invariants_{secrets.token_hex(4)}"
        (package / "sql").mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "sql" / "invariants.sql").write_text(sql)
        return package.name

    return make


@pytest.fixture
async def throwaway(database: Database, package_with: PackageWith) -> Source:
    """A schema with one table, and a package with its invariants."""
    async with database.connection() as connection:
        await connection.execute(
            "CREATE TABLE stock.wallet (user_id text, balance bigint, is_open bool DEFAULT false);"
            "ALTER TABLE stock.wallet OWNER TO stock;"
            "GRANT SELECT ON stock.wallet TO operator;"
            "INSERT INTO stock.wallet VALUES ('user_1', 5), ('user_2', 0)"
        )
    return Source("stock", package_with(THROWAWAY))


async def execute(database: Database, *statements: str) -> None:
    async with database.connection() as connection:
        for statement in statements:
            await connection.execute(statement)


def found_in(report: Report) -> set[str]:
    return {check.name for check in report.violations}


async def test_a_clean_database_has_no_violation(database: Database, throwaway: Source) -> None:
    report = await audit(database.operator_dsn, [throwaway])
    report.require()
    own = {invariant.name for invariant in load("shared", "sql/invariants.sql")}
    names = {check.name for check in report.checks}
    assert names == own | {"balances_are_not_negative", "nothing_is_open"}


async def test_a_planted_violation_is_found_with_its_rows(
    database: Database, throwaway: Source
) -> None:
    await execute(database, "UPDATE stock.wallet SET balance = -3 WHERE user_id = 'user_2'")
    report = await audit(database.operator_dsn, [throwaway])
    (check,) = report.violations
    assert (check.name, check.place, check.invariant) == ("balances_are_not_negative", "stock", 4)
    assert check.moment is Moment.ALWAYS
    assert check.violations == ({"user_id": "user_2", "balance": -3},)
    with pytest.raises(AssertionError, match="user_id=user_2"):
        report.require()


@pytest.mark.parametrize("name", PLANTS)
async def test_each_invariant_of_the_pipeline_finds_its_plant(
    database: Database, throwaway: Source, name: str
) -> None:
    await execute(database, PLANTS[name])
    assert found_in(await audit(database.operator_dsn, [throwaway])) == {name}


@pytest.mark.parametrize(
    "how",
    [
        "GRANT USAGE ON SCHEMA stock TO PUBLIC",
        "ALTER ROLE payment SUPERUSER",
        "GRANT stock TO payment WITH INHERIT FALSE, SET TRUE",
    ],
)
async def test_whatever_opens_a_schema_to_another_service_is_found(
    database: Database, how: str
) -> None:
    """Roles are the whole server's, so nothing of this is committed."""
    (invariant,) = [one for one in load("shared", "sql/invariants.sql") if one.number == 10]
    async with database.connection() as connection:
        await connection.execute("SET search_path = stock")
        assert await connection.fetch(invariant.sql) == []
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(how)
        rows = await connection.fetch(invariant.sql)
        await transaction.rollback()
    assert ("payment", "stock") in [tuple(row) for row in rows]


def test_each_invariant_of_the_pipeline_has_a_plant() -> None:
    assert {invariant.name for invariant in load("shared", "sql/invariants.sql")} == set(PLANTS)


async def test_what_holds_at_rest_is_left_out_while_work_goes_on(
    database: Database, throwaway: Source
) -> None:
    await execute(database, "UPDATE stock.wallet SET is_open = true", PLANTS["outbox_is_published"])
    at_rest = await audit(database.operator_dsn, [throwaway])
    assert found_in(at_rest) == {"nothing_is_open", "outbox_is_published"}
    report = await audit(database.operator_dsn, [throwaway], only_always=True)
    report.require()
    assert {check.moment for check in report.checks} == {Moment.ALWAYS}


async def test_many_violations_are_listed_in_part(database: Database, throwaway: Source) -> None:
    await execute(
        database,
        "INSERT INTO stock.wallet SELECT 'user_' || n, -n FROM generate_series(1, 500) AS n",
    )
    report = await audit(database.operator_dsn, [throwaway])
    (check,) = report.violations
    assert len(check.violations) == 100
    assert check.more
    assert "100+ VIOLATED" in report.table()


async def test_a_query_that_fails_is_no_proof_and_spares_the_others(
    database: Database, throwaway: Source
) -> None:
    await execute(database, "ALTER TABLE stock.wallet DROP COLUMN is_open")
    report = await audit(database.operator_dsn, [throwaway])
    (check,) = report.violations
    assert check.name == "nothing_is_open"
    assert "is_open" in check.error
    assert not report.ok
    assert len(report.checks) == 5


async def test_sources_without_a_schema_look_at_several(
    database: Database, package_with: PackageWith
) -> None:
    package = package_with(
        "-- name: as_many\n-- Invariant 6, at rest: both inboxes know the order.\n"
        "SELECT message_id FROM stock.inbox EXCEPT SELECT message_id FROM payment.inbox;\n"
    )
    await execute(
        database,
        "INSERT INTO stock.inbox VALUES ('ReserveStock', 'o-1', decode(repeat('00', 16), 'hex'))",
    )
    report = await audit(database.operator_dsn, [Source(None, package)])
    assert [check.name for check in report.checks] == ["as_many"]
    assert report.violations[0].violations == ({"message_id": "o-1"},)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Between two queries of an audit."""
    from shared.audit import invariants

    gate = Gate("between two queries")
    check_one = invariants._check

    async def slow(*arguments: object) -> object:
        found = await check_one(*arguments)  # type: ignore[arg-type]
        await gate.stop()
        return found

    monkeypatch.setattr(invariants, "_check", slow)
    return gate


async def test_during_traffic_no_snapshot_outlasts_its_query(
    database: Database, throwaway: Source, gate: Gate
) -> None:
    """A snapshot as long as the audit would hold back the vacuum of hot rows for so long."""
    running = asyncio.create_task(audit(database.operator_dsn, [throwaway], only_always=True))
    await gate.reached()
    await execute(database, PLANTS["outbox_rows_say_something"])
    gate.open()
    assert found_in(await running) == {"outbox_rows_say_something"}, "a later query sees later rows"


async def test_a_source_is_read_in_one_snapshot(
    database: Database, throwaway: Source, gate: Gate
) -> None:
    """Money that moves while the audit goes from query to query must not look lost."""
    running = asyncio.create_task(audit(database.operator_dsn, [throwaway]))
    await gate.reached()
    await execute(database, "UPDATE stock.wallet SET is_open = true, balance = -1")
    gate.open()
    (await running).require()


NARROWED = """
-- name: by_order
-- Invariant 6, always: nothing is open.
-- In passes: by order, of basket.
SELECT order_id FROM basket WHERE open;

-- name: whole
-- Invariant 4, always: nothing is heavy.
SELECT order_id FROM basket WHERE weight > 9;

-- name: dear
-- Invariant 6, always: nothing is lost.
-- In passes: left out, since it asks everybody.
SELECT order_id FROM basket WHERE weight < 0;

-- name: resting
-- Invariant 6, at rest: nothing is there.
SELECT order_id FROM basket;
"""


@pytest.mark.parametrize(
    ("orders", "found"),
    [
        (Orders("", None), {"o-1", "o-2", "o-3"}),
        (Orders("", "o-1"), {"o-1"}),
        (Orders("o-1", "o-2"), {"o-2"}),
        (Orders("o-2", None), {"o-3"}),
        (Orders("o-1", "o-2", ["o-3", "o-9"]), {"o-2", "o-3"}),
    ],
)
async def test_a_pass_looks_at_its_orders_alone_and_not_at_what_is_left_out(
    database: Database, package_with: PackageWith, orders: Orders, found: set[str]
) -> None:
    await execute(
        database,
        "CREATE TABLE stock.basket (order_id text PRIMARY KEY, open bool, weight int)",
        "INSERT INTO stock.basket VALUES ('o-1', true, 9), ('o-2', true, 9), ('o-3', true, 10)",
        "GRANT SELECT ON stock.basket TO operator",
    )
    source = Source("stock", package_with(NARROWED))
    report = await check_pass(database.operator_dsn, orders, [source])
    own = {one.name for one in load("shared", "sql/invariants.sql")}
    assert {check.name for check in report.checks} - own == {"by_order", "whole"}
    rows = {check.name: {row["order_id"] for row in check.violations} for check in report.violated}
    assert rows == {"by_order": found, "whole": {"o-3"}}
    assert not report.unchecked


async def test_an_audit_writes_nothing(database: Database, package_with: PackageWith) -> None:
    package = package_with(
        "-- name: writes\n-- Invariant 1, always: this is no query.\n"
        "WITH gone AS (DELETE FROM stock.inbox RETURNING *) SELECT * FROM gone;\n"
    )
    report = await audit(database.admin_dsn, [Source("stock", package)])
    assert "read-only" in report.violations[0].error
