"""The audit finds what is wrong: planted violations for each invariant, and none in sound sagas."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from order_orchestrator.domain import LEGAL, SagaState
from order_orchestrator.events import Settle
from shared.audit import Source, audit
from shared.contracts.reading import Unreadable
from shared.database import Queries
from shared.testing.builders import cancel_order, pay_order, place_order

if TYPE_CHECKING:
    from shared.database import Connection
    from shared.testing.databases import Database

    from ..conftest import Answers  # noqa: TID252 - a conftest has no absolute name
    from .conftest import MakeReplica, Replica

SOURCES = [Source("orders", "order_orchestrator")]
invariants = Queries("order_orchestrator", "sql/invariants.sql")


async def orders_of_every_kind(one: Replica, answers: Answers) -> None:
    """Each state but `PENDING` at least once, each end by several ways."""

    async def obey(rows: Any, *, until: str = "") -> Any:
        """Answers all commands but the `do` of the step `until`."""
        stop = f":{until}:do"
        while commands := [each for each in one.commands(rows) if stop not in each.command_id]:
            rows = await one.run(*map(answers.done, commands))
        return rows

    coupon = {"coupon_id": "WELCOME10"}
    await obey(await one.run(place_order("confirmed", **coupon)))
    await obey(await one.run(place_order("plain")))
    await obey(await one.run(place_order("completing")), until="commit")
    await obey(await one.run(place_order("reserving")), until="reserve")
    await obey(await one.run(place_order("holding", **coupon)), until="hold")
    await obey(await one.run(place_order("charging")), until="charge")
    await obey(await one.run(place_order("awaiting", pay="later", **coupon)))
    await obey(await one.run(place_order("paid", pay="later")))
    await obey(await one.run(pay_order("paid")))
    await obey(await one.run(place_order("cancelled", pay="later")))
    await obey(await one.run(cancel_order("cancelled")))
    await one.run(cancel_order("never-started"))
    await one.run(place_order("never-started"))
    for step, order in (("reserve", "no-stock"), ("hold", "no-coupon"), ("charge", "no-money")):
        rows = await obey(await one.run(place_order(order, **coupon)), until=step)
        (command,) = one.commands(rows)
        rows = await one.run(answers.refused(command))
        await obey(rows)
    rows = await obey(await one.run(place_order("compensating", **coupon)), until="charge")
    await one.run(answers.refused(one.commands(rows)[0]))
    (reserve,) = one.commands(await one.run(place_order("stuck")))
    await one.dead_letter(reserve)
    await one.run(
        Unreadable("invalid", "items: none", "PlaceOrder", order_id="invalid", user_id="user_1")
    )


async def test_what_the_orchestrator_does_is_sound(
    database: Database, replica: MakeReplica, answers: Answers
) -> None:
    one = await replica()
    await orders_of_every_kind(one, answers)
    states = await one.value("SELECT array_agg(DISTINCT state) FROM saga")
    assert set(states) == {state.value for state in SagaState} - {"PENDING"}
    (await audit(database.operator_dsn, SOURCES, only_always=True)).require()


async def test_at_rest_what_is_under_way_is_a_violation(
    database: Database, replica: MakeReplica, answers: Answers
) -> None:
    one = await replica()
    await orders_of_every_kind(one, answers)
    report = await audit(database.operator_dsn, SOURCES)
    found = {check.name: check.violations for check in report.violations}
    open_ones = {row["order_id"] for row in found.pop("sagas_have_ended")}
    assert open_ones == {
        "completing", "reserving", "holding", "charging", "compensating", "stuck",
    }  # fmt: skip
    assert set(found) == {"outbox_is_published"}  # nobody publishes here


def _step(step: str, status: str, order: str) -> str:
    return (
        "UPDATE saga SET progress = jsonb_set(progress::jsonb,"
        f" '{{steps,{step}}}', '\"{status}\"')::json WHERE order_id = '{order}'"
    )


def _said(message_id: str, before: str, after: str) -> str:
    """Changes one message in the outbox."""
    return (
        "UPDATE outbox SET messages = (SELECT json_agg("
        f"  CASE WHEN fields ->> 3 = '{message_id}'"
        f"  THEN replace(fields::text, '{before}', '{after}')::json ELSE fields END)"
        " FROM json_array_elements(messages) AS fields)"
    )


def _history(order_id: str, *lines: tuple[int, str]) -> str:
    """Tells another history of one order."""
    return f"UPDATE saga SET history = '{_lines(*lines)}' WHERE order_id = '{order_id}'"


def _lines(*lines: tuple[int, str]) -> str:
    return "".join(f'[{version},"{state}","test","2026-01-01",null]\n' for version, state in lines)


PLANTED = {
    "history_is_gapless": {
        "nothing is told": _history("reserving"),
        "a row is missing": _history("charging", (1, "RESERVING")),
        "a row too many": _history("charging", (1, "RESERVING"), (2, "CHARGING"), (3, "CHARGING")),
        "a version is left out": _history("reserving", (2, "RESERVING")),
        "a version is told twice": _history("charging", (1, "RESERVING"), (1, "CHARGING")),
        "another state": _history("charging", (1, "RESERVING"), (2, "HOLDING")),
    },
    "history_is_legal": {
        "it began at its end": _history("charging", (1, "CHARGING"), (2, "CHARGING")),
    },
    "steps_fit_their_state": {
        "done, and rejected": _step("reserve", "done", "no-money"),
        "unanswered, and cancelled": _step("reserve", "sent", "cancelled"),
        "the undo unanswered, and rejected": _step("hold", "undoing", "no-money"),
        "unanswered, and compensating": _step("charge", "sent", "compensating"),
        "unanswered, and confirmed": _step("commit", "sent", "confirmed"),
        "undone, and confirmed": _step("reserve", "undone", "confirmed"),
        "unpaid, and past the pivot": _step("charge", "sent", "completing"),
        "refused, and going on": _step("reserve", "refused", "charging"),
        "charged, and awaiting payment": _step("charge", "sent", "awaiting"),
    },
    "confirmed_sagas_did_every_step": {
        "never charged": "UPDATE saga SET progress = (progress::jsonb #- '{steps,charge}')::json"
        " WHERE order_id = 'confirmed'",
    },
    "outcomes_are_told_once": {
        "told too early": "UPDATE saga SET told_version = told_version - 1"
        " WHERE order_id = 'confirmed'",
        "told, and not ended": "UPDATE saga SET told_version = 1, told_at = '2020-01-01'"
        " WHERE order_id = 'reserving'",
    },
    "outcomes_were_written": {
        "never said": _said("confirmed:OrderConfirmed", "orders.events.v1", "orders.other.v1"),
        "another was said": _said(
            "confirmed:OrderConfirmed", '"OrderConfirmed"', '"OrderRejected"'
        ),
        "said of an order that goes on": _said(
            "charging:OrderAccepted", '"OrderAccepted"', '"OrderConfirmed"'
        ),
        "two were said": _said("confirmed:OrderAccepted", '"OrderAccepted"', '"OrderCancelled"'),
        "said of an order that is not there": _said(
            "confirmed:OrderConfirmed", '"confirmed"', '"nobody"'
        )
        + "; UPDATE saga SET told_at = '2020-01-01' WHERE order_id = 'confirmed'",
    },
    "undos_are_in_reverse": {
        "in the order of the steps": "UPDATE outbox SET messages = ("
        "SELECT json_agg(fields ORDER BY position DESC)"
        " FROM json_array_elements(messages) WITH ORDINALITY AS message (fields, position))"
        " WHERE NOT public",
    },
    "nothing_is_forgotten": {
        "no timer, and no operator": "UPDATE saga SET timer_at = NULL WHERE order_id = 'awaiting'",
        "a late undo without a timer": _step("charge", "undoing_late", "no-money")
        + "; UPDATE saga SET waiting = true WHERE order_id = 'no-money'",
    },
    "waiting_is_counted": {
        "counted for ever": "UPDATE saga SET waiting = true WHERE order_id = 'confirmed'",
        "not counted": "UPDATE saga SET waiting = false WHERE order_id = 'reserving'",
        "hanging, not at the gateway": "UPDATE saga SET waiting = false,"
        " progress = jsonb_set(progress::jsonb, '{sends}', '2')::json WHERE order_id = 'reserving'",
    },
    "parked_commands_have_no_order": {
        "parked, though the order is there": "INSERT INTO parked_command"
        " (order_id, command_type, command_id, body, traceparent)"
        " VALUES ('awaiting', 'PayOrder', 'awaiting:pay', '{}', '')",
    },
}
"""Invariant -> what violates it and no other, and how to do it."""


async def test_each_planted_violation_is_found_by_its_invariant_and_no_other(
    database: Database, replica: MakeReplica, answers: Answers
) -> None:
    await orders_of_every_kind(await replica(), answers)
    assert {query.name for query in invariants} == {*PLANTED, "sagas_have_ended"}
    async with database.connection() as connection:
        await connection.execute("SET search_path = orders")
        for name, faults in PLANTED.items():
            for fault, how in faults.items():
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(how)
                found = {
                    query.name
                    for query in invariants
                    if query.name != "sagas_have_ended" and await query.rows(connection)
                }
                assert found == {name}, fault
                await transaction.rollback()


async def test_the_legal_changes_are_those_of_the_engine(database: Database) -> None:
    """Every pair of states is planted; the query finds exactly those that `LEGAL` lacks."""
    states = [state.value for state in SagaState]
    pairs = [*itertools.product(states, states), *((None, state) for state in states)]
    legal = {(before, after) for before, after in LEGAL} | {(state, state) for state in states}
    async with database.connection("orders") as connection:
        for number, (before, after) in enumerate(pairs):
            path = [after] if before is None else [before, after]
            await connection.execute(
                "INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version,"
                " accepted_at, placed, definition_version, state, version, progress, history,"
                " waiting)"
                " VALUES ($1, '', decode(repeat('00', 16), 'hex'), 1, now(),"
                " '{}', 1, 'RESERVING', 1, '{}', $2, false)",
                f"o-{number}",
                _lines(*enumerate(path, 1)),
            )
        rows = await invariants.history_is_legal.rows(connection)
    found = {(row["before"].replace("nothing", "") or None, row["state"]) for row in rows}
    first = {(None, state) for state in states}  # each pair's first row is planted, too
    assert found - first == set(pairs) - first - legal
    assert found & first == first - legal


@pytest.mark.usefixtures("sound")
async def test_an_operators_settlement_is_sound(replica: MakeReplica, answers: Answers) -> None:
    """Steps that were written off are neither done nor undone."""
    one = await replica()
    (reserve,) = one.commands(await one.run(place_order("o-1")))
    (charge,) = one.commands(await one.run(answers.done(reserve)))
    (release,) = one.commands(await one.run(answers.refused(charge)))
    await one.dead_letter(release)

    async def settle(connection: Connection) -> tuple[None, Any]:
        store = one.sagas.store(connection)
        chunk = await one.sagas.load(store, ["o-1"])
        chunk.apply(chunk.loaded["o-1"], Settle("ann", SagaState.REJECTED, "units written off"))
        return None, chunk.save(store)

    await one.work.run(settle)
    saga = await one.saga("o-1")
    assert (saga.state, saga.steps[0]) == ("REJECTED", "settled")
