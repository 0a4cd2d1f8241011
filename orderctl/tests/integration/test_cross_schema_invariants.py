"""The invariants over several schemas find what is planted, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orderctl.auditing import audit_everything, sources
from orderctl.draining import wait_until_at_rest
from shared.audit import Source, audit
from shared.audit.invariants import load

if TYPE_CHECKING:
    from shared.testing.databases import Database

CROSS = Source(None, "orderctl")

WORLD = """
INSERT INTO stock.product (product_id, name, price, currency, strategy, when_redis_down,
                           available, reserved, sold, received, version)
VALUES ('P001', 'one', 100, 'KRW', 'optimistic', 'postgres', 10, 0, 2, 12, 1),
       ('P002', 'two', 300, 'KRW', 'optimistic', 'postgres', 10, 0, 1, 11, 1);
INSERT INTO stock.reservation (order_id, state, lines, refusal)
VALUES ('paid', 'COMMITTED', '[["P001", 2, 100], ["P002", 1, 300]]', NULL),
       ('given-up', 'RELEASED', '[["P001", 1, 100]]', NULL),
       ('refused', 'REFUSED', '[]', '{"reason": "out_of_stock", "details": []}');
INSERT INTO coupon.coupon_hold (order_id, state, coupon_id, user_id, total, discount, used)
VALUES ('paid', 'USED', 'C1', 'user_1', 500, 50, true),
       ('given-up', 'RESTORED', 'C1', 'user_2', 100, 10, false);
INSERT INTO payment.payment (order_id, state, user_id, amount, currency, method, points,
                             captured, refunded, fingerprint_version, fingerprint)
VALUES ('paid', 'CAPTURED', 'user_1', 450, 'KRW', 'wallet', 0, 450, 0, 1, decode(repeat('00', 16), 'hex')),
       ('given-up', 'REFUNDED', 'user_2', 90, 'KRW', 'wallet', 0, 90, 90, 1, decode(repeat('00', 16), 'hex'));
"""  # noqa: E501 - rows

DONE = dict.fromkeys(("reserve", "hold", "charge", "use", "commit"), "done")
SAGAS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("paid", "user_1", "CONFIRMED",
     {"lines": [["P001", 2], ["P002", 1]], "couponId": "C1"},
     {"steps": DONE, "prices": [100, 300], "discount": 50}),
    ("given-up", "user_2", "CANCELLED",
     {"lines": [["P001", 1]], "couponId": "C1"},
     {"steps": {"reserve": "undone", "hold": "undone", "charge": "undone"}, "prices": [100],
      "discount": 10}),
    ("refused", "user_3", "REJECTED", {"lines": [["P001", 1]]}, {"steps": {"reserve": "refused"}}),
]  # fmt: skip

PLANTS = [
    ("sold_exactly_where_confirmed",
     ("UPDATE stock.reservation SET lines = jsonb_set(lines, '{1,2}', '301')"
     " WHERE order_id = 'paid'")),
    ("sold_exactly_where_confirmed",
     "UPDATE stock.reservation SET state = 'RELEASED' WHERE order_id = 'paid'"),
    ("sold_exactly_where_confirmed", "DELETE FROM stock.reservation WHERE order_id = 'paid'"),
    ("nothing_reserved_for_ended_orders",
     "UPDATE stock.reservation SET state = 'RESERVED' WHERE order_id = 'given-up'"),
    ("reservations_are_what_was_ordered",
     ("UPDATE stock.reservation SET lines = jsonb_set(lines, '{0,1}', '2')"
     " WHERE order_id = 'given-up'")),
    ("reservations_are_what_was_ordered",
     "INSERT INTO stock.reservation (order_id, state, lines) VALUES ('nobody', 'TOMBSTONE', '[]')"),
    ("coupons_follow_their_orders",
     "UPDATE coupon.coupon_hold SET state = 'HELD' WHERE order_id = 'given-up'"),
    ("coupons_follow_their_orders",
     "UPDATE coupon.coupon_hold SET state = 'HELD', used = false WHERE order_id = 'paid'"),
    ("coupons_follow_their_orders",
     "UPDATE coupon.coupon_hold SET discount = 49 WHERE order_id = 'paid'"),
    ("coupons_follow_their_orders",
     "UPDATE coupon.coupon_hold SET user_id = 'user_2' WHERE order_id = 'paid'"),
    ("coupons_follow_their_orders",
     "UPDATE coupon.coupon_hold SET order_id = 'nobody' WHERE order_id = 'paid'"),
    ("captured_is_the_total",
     "UPDATE payment.payment SET amount = 449, captured = 449 WHERE order_id = 'paid'"),
    ("captured_is_the_total", "DELETE FROM payment.payment WHERE order_id = 'paid'"),
    ("captured_is_the_total",
     """UPDATE orders.saga SET progress = jsonb_set(progress::jsonb - 'prices', '{steps,commit}',
        '"settled"')::json WHERE order_id = 'paid'"""),
    ("captured_is_the_total",
     "UPDATE payment.payment SET state = 'CAPTURED', refunded = 0 WHERE order_id = 'given-up'"),
    ("captured_is_the_total",
     "UPDATE payment.payment SET user_id = 'user_9' WHERE order_id = 'paid'"),
    ("captured_is_the_total",
     "UPDATE payment.payment SET order_id = 'nobody' WHERE order_id = 'given-up'"),
]  # fmt: skip
"""Invariant -> a statement that violates it."""


@pytest.fixture
async def world(database: Database) -> Database:
    """One order of each ending, and all that belongs to it."""
    async with database.connection() as connection:
        await connection.execute(WORLD)
        for order_id, user_id, state, placed, progress in SAGAS:
            ending = {} if state == "CONFIRMED" else {"ending": {"state": state}}
            await connection.execute(
                "INSERT INTO orders.saga (order_id, user_id, fingerprint, fingerprint_version,"
                " accepted_at, placed, definition_version, state, version, told_version, told_at,"
                " progress, history, waiting)"
                " VALUES ($1, $2, decode(repeat('00', 16), 'hex'), 1, now(), $4, 1, $3, 4, 4,"
                " now(), $5, '', false)",
                order_id, user_id, state, json.dumps(placed), json.dumps(progress | ending),
            )  # fmt: skip
    return database


async def violated(database: Database) -> set[str]:
    report = await audit(database.operator_dsn, [CROSS])
    assert not any(check.error for check in report.checks), report.table()
    return {check.name for check in report.violations}


async def test_all_hold_in_a_world_that_is_well(world: Database) -> None:
    assert await violated(world) == set()


@pytest.mark.parametrize(("name", "statement"), PLANTS)
async def test_what_is_planted_is_found(world: Database, name: str, statement: str) -> None:
    async with world.connection() as connection:
        assert not (await connection.execute(statement)).endswith(" 0")
    assert await violated(world) == {name}


def test_every_invariant_has_a_plant() -> None:
    invariants = load("orderctl", "sql/invariants.sql")
    assert {invariant.name for invariant in invariants} == {name for name, _ in PLANTS}


@pytest.mark.parametrize("status", ["settled", "undoing_late"])
async def test_f20_what_an_operator_settled_is_no_violation(world: Database, status: str) -> None:
    async with world.connection() as connection:
        await connection.execute(
            "UPDATE stock.reservation SET state = 'RESERVED' WHERE order_id = 'given-up'"
        )
        assert await violated(world) == {"nothing_reserved_for_ended_orders"}
        await connection.execute(
            "UPDATE orders.saga SET progress = jsonb_set(progress::jsonb, '{steps,reserve}', $1)"
            " WHERE order_id = 'given-up'",
            json.dumps(status),
        )
    assert await violated(world) == set()


async def test_the_whole_audit_looks_at_every_schema(world: Database) -> None:
    report = await audit_everything(world.operator_dsn, None, only_always=True)
    assert not report.unchecked
    assert {check.place for check in report.checks} == {
        "stock", "coupon", "payment", "orders", "all schemas",
    }  # fmt: skip
    assert len(sources()) == 5


async def test_rest_is_waited_for_and_what_moves_is_named(world: Database) -> None:
    assert not (await wait_until_at_rest(world.operator_dsn, None, within_s=5)).at_work
    async with world.connection() as connection:
        await connection.execute(
            "UPDATE orders.saga SET state = 'CHARGING', waiting = true WHERE order_id = 'paid'"
        )
    found = await wait_until_at_rest(world.operator_dsn, None, within_s=0.1)
    assert found.at_work == "sagas: 1"
