"""What comes before the row: gates that are asked, lost, wrong or away, and who waits for whom."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from prometheus_client import REGISTRY

from coupon.gates import Answer, Ask
from coupon.handlers import WAITS_BEFORE_REBUILDING
from shared import backoff
from shared.audit import counters as audited
from shared.audit.invariants import Source
from shared.contracts.coupon import (
    CampaignKind,
    Discount,
    DiscountType,
    IssueCoupon,
    PutCampaign,
)
from shared.redis import STILL_PASSES
from shared.testing.replicas import deliver
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from shared.contracts.base import Message

Coupons: TypeAlias = Any  # of conftest.py

ASKED = [kind for kind in CampaignKind if kind is not CampaignKind.LOTTERY]
GATED = [CampaignKind.FIRST_COME, CampaignKind.CONDITIONAL]


def put(kind: CampaignKind, limit: int = 3, **fields: Any) -> PutCampaign:
    given: dict[str, Any] = {
        "command_id": f"put-{limit}", "coupon_id": "C", "kind": kind, "limit": limit,
        "discount": Discount(type=DiscountType.FIXED, value=500),
        "rule": "true" if kind is CampaignKind.CONDITIONAL else None,
    }  # fmt: skip
    return PutCampaign(**given | fields)


def issue(number: int, user: int | None = None) -> IssueCoupon:
    user_id = f"u{number if user is None else user}"
    return IssueCoupon(command_id=f"i-{number}", coupon_id="C", user_id=user_id)


def said(answers: list[dict[str, Any]]) -> list[Any]:
    return [answer.get("sequence") or answer.get("reason", answer["type"]) for answer in answers]


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def gates_agree(coupons: Coupons) -> None:
    """Once nothing is under way."""
    for _ in range(STILL_PASSES + 3):
        await coupons.replica().reconciler.run_once()
    sources = [Source("coupon", "coupon")]
    check = await audited.check_counters(coupons.database.operator_dsn, coupons.valkey.url, sources)
    assert (check.ok, check.violations) == (True, ())
    assert await coupons.violations() == set()


@pytest.mark.parametrize("kind", ASKED)
async def test_every_kind_issues_what_there_is_to_each_user_once(
    kind: CampaignKind, coupons: Coupons
) -> None:
    await coupons.run(put(kind))
    first = await coupons.run(issue(1), issue(2), issue(3, 1), issue(1))
    second = await coupons.replica(1).run(issue(4, 2), issue(5), issue(6), issue(7))

    assert said(first) == [1, 2, "already_issued"]
    assert said(second) == ["already_issued", 3, "sold_out", "sold_out"]
    assert await coupons.violations() == set()


@pytest.mark.parametrize("kind", ASKED)
async def test_f63_the_limit_may_rise_while_it_runs(kind: CampaignKind, coupons: Coupons) -> None:
    await coupons.run(put(kind, 1), issue(1), issue(2))
    await coupons.run(put(kind, 3))

    assert said(await coupons.run(issue(3), issue(4), issue(5))) == [2, 3, "sold_out"]


@pytest.mark.parametrize("kind", ASKED)
async def test_who_comes_when_all_are_given_out_locks_nothing(
    kind: CampaignKind, coupons: Coupons
) -> None:
    await coupons.run(put(kind, 1), issue(1))
    async with coupons.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM campaign FOR UPDATE")

        async with asyncio.timeout(2):
            answers = await coupons.run(*(issue(number) for number in range(2, 50)))

    assert said(answers) == ["sold_out"] * 48


async def test_f63_a_crowd_that_the_gate_turns_away_locks_nothing_while_coupons_are_issued(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the row: the crowd asks again until the row says the same as the gate."""
    monkeypatch.setattr(backoff, "FIRST_S", 0.001)
    await coupons.run(put(CampaignKind.FIRST_COME, 1))
    waits = counted("coupon_waits_total")
    async with coupons.pool.acquire() as connection, connection.transaction():
        # an instance that has admitted the last one and is about to commit
        asked = await admitted(coupons, issue(1))
        await connection.execute("INSERT INTO coupon VALUES ('C', 'u1', 1, 'ISSUED', NULL, now());")
        crowd = asyncio.create_task(coupons.replica(1).run(issue(2), issue(3)))
        while counted("coupon_waits_total") == waits:
            assert not crowd.done()
            await asyncio.sleep(0)
        await connection.execute("UPDATE campaign SET issued = 1")

    assert said(await crowd) == ["sold_out"] * 2
    assert asked == [Answer.ADMITTED]


async def admitted(coupons: Coupons, *commands: IssueCoupon) -> list[Answer]:
    """What the gate says to requests that nobody decides on."""
    await coupons.replica().reconciler.run_once()
    ((fence,),) = await coupons.rows("SELECT fence FROM campaign")
    asks = [Ask("C", one.user_id, one.command_id, fence) for one in commands]
    answers: list[Answer] = await coupons.replica().doorkeeper.gates.admit(asks)
    return answers


async def test_f59_places_of_an_instance_that_died_are_given_to_those_who_come(
    coupons: Coupons,
) -> None:
    """Nobody is told that all are gone because of users whose requests were never decided."""
    await coupons.run(put(CampaignKind.FIRST_COME, 3), issue(1))
    assert await admitted(coupons, issue(2), issue(3)) == [Answer.ADMITTED] * 2
    stuck = counted("coupon_gate_rebuilds_total", cause="stuck")

    answers = await coupons.replica(1).run(issue(4), issue(5), issue(6))

    assert said(answers) == [2, 3, "sold_out"]
    assert counted("coupon_gate_rebuilds_total", cause="stuck") == stuck + 1
    assert WAITS_BEFORE_REBUILDING == 5
    # the requests of the dead one come again, after the places were given away
    assert said(await coupons.run(issue(2), issue(3))) == ["sold_out"] * 2


async def test_those_who_were_admitted_go_before_those_who_wait(coupons: Coupons) -> None:
    """In one chunk: two places are another instance's, which commits in the meantime."""
    await coupons.run(put(CampaignKind.FIRST_COME, 3))
    assert await admitted(coupons, issue(1), issue(2)) == [Answer.ADMITTED] * 2
    waits = counted("coupon_waits_total")

    late = asyncio.create_task(coupons.replica(1).run(issue(4), issue(5), issue(6)))
    while counted("coupon_waits_total") == waits:
        await asyncio.sleep(0)
    early = await coupons.replica().run(issue(1), issue(2))

    assert said(early) == [2, 3]
    assert said(await late) == [1, "sold_out", "sold_out"]
    await gates_agree(coupons)


@pytest.mark.parametrize("kind", GATED)
@pytest.mark.parametrize("loss", ["flushdb", "other server", "no gate"])
async def test_f54_after_any_loss_exactly_as_many_come_out(
    kind: CampaignKind, loss: str, coupons: Coupons
) -> None:
    await coupons.run(put(kind, 10), *(issue(number) for number in range(4)))
    match loss:
        case "flushdb":
            await coupons.valkey.client.flushdb()
        case "other server":
            await coupons.valkey.client.hset("{coupon}:gate:C", "run", "0" * 40)
        case "no gate":
            await coupons.valkey.client.set("{coupon}:gate:C", "")

    answers = await coupons.run(*(issue(number) for number in range(20)))

    issued = [answer["sequence"] for answer in answers if "sequence" in answer]
    assert sorted(set(issued)) == list(range(1, 11))
    assert said(answers).count("sold_out") == 10
    await gates_agree(coupons)


@pytest.mark.parametrize("kind", GATED)
async def test_f60_while_redis_is_away_postgres_decides_alone(
    kind: CampaignKind, coupons: Coupons
) -> None:
    await coupons.run(put(kind, 4), issue(1))
    away = coupons.replica(7, through="redis://127.0.0.1:1/0")

    answers = await away.run(issue(2), issue(3))
    assert said(answers) == [2, 3]
    assert away.doorkeeper.reach.is_away

    # the gate, which knows nothing of these, admits nobody by its count
    assert said(await coupons.run(issue(4), issue(5))) == [4, "sold_out"]
    await gates_agree(coupons)


async def test_f60_locks_are_done_without_while_redis_is_away(coupons: Coupons) -> None:
    await coupons.run(put(CampaignKind.LOCKED, 3), issue(1))
    away = coupons.replica(7, through="redis://127.0.0.1:1/0")

    assert said(await away.run(issue(2), issue(3), issue(4))) == [2, 3, "sold_out"]


async def test_an_admission_that_came_to_nothing_is_given_back(coupons: Coupons) -> None:
    """The gate was lost, so that it knows nobody: the row does."""
    await coupons.run(put(CampaignKind.FIRST_COME, 3), issue(1))
    await coupons.valkey.client.flushdb()

    answers = await coupons.run(issue(2, 1), issue(1), issue(3))

    assert said(answers) == [1, "already_issued", 2]
    (gate,) = await coupons.replica().doorkeeper.gates.read(["C"])
    assert gate.taken == 2


async def test_a_gate_that_stands_still_and_differs_is_written_anew(coupons: Coupons) -> None:
    await coupons.run(put(CampaignKind.FIRST_COME, 3), issue(1))
    await admitted(coupons, issue(2), issue(3))

    written = [await coupons.replica().reconciler.run_once() for _ in range(STILL_PASSES + 1)]

    assert written == [0] * STILL_PASSES + [1]
    await gates_agree(coupons)
    assert said(await coupons.run(issue(4), issue(5), issue(6))) == [2, 3, "sold_out"]


async def test_gates_of_campaigns_that_give_nothing_out_are_forgotten(coupons: Coupons) -> None:
    await coupons.run(put(CampaignKind.FIRST_COME, 1), issue(1))
    await coupons.replica().reconciler.run_once()

    assert [key for key in await coupons.valkey.client.keys("*") if "probe" not in key] == []


@pytest.mark.parametrize("kind", ASKED)
async def test_f54_three_instances_and_a_server_that_forgets_all_the_time(
    kind: CampaignKind, coupons: Coupons
) -> None:
    """A campaign on every partition, redelivery, and Redis flushed in the middle of everything."""
    await coupons.run(put(kind, 100))
    chance = random.Random(54)
    requests = [issue(number) for number in range(1_500)]
    work = [requests[number::3] for number in range(3)]
    for number, twice in enumerate(chance.sample(requests, 150)):
        work[number % 3].append(twice)
    done = asyncio.Event()

    async def consume(number: int, messages: list[IssueCoupon]) -> list[dict[str, Any]]:
        answers = []
        for start in range(0, len(messages), 60):
            chunk: list[Message] = [*messages[start : start + 60]]
            deliveries = deliver(*chunk, partition=number)
            answers += await coupons.replica(number).run_chunk(deliveries)
        return answers

    async def forget() -> None:
        while not done.is_set():
            await coupons.valkey.client.flushdb()
            await asyncio.sleep(chance.uniform(0.001, 0.05))

    forgetting = asyncio.create_task(forget())
    answered = await asyncio.gather(*(consume(n, each) for n, each in enumerate(work)))
    done.set()
    await forgetting

    verdicts: dict[str, set[str]] = {}
    issued: dict[str, int] = {}
    for answer in (one for answers in answered for one in answers):
        verdicts.setdefault(answer["commandId"], set()).add(str(answer))
        if answer["type"] == "CouponIssued":
            issued[answer["userId"]] = answer["sequence"]
    assert len(verdicts) == 1_500
    assert all(len(each) == 1 for each in verdicts.values())
    assert sorted(issued.values()) == list(range(1, 101))
    await gates_agree(coupons)


async def test_an_id_that_was_another_users_keeps_no_place_at_the_gate(coupons: Coupons) -> None:
    """Its user asks again in the same chunk, and waits for nobody."""
    await coupons.run(put(CampaignKind.FIRST_COME, 5), issue(1))
    stuck = counted("coupon_gate_rebuilds_total", cause="stuck")

    answers = await coupons.run(issue(1, 3), issue(3), issue(4))

    assert sorted(map(str, said(answers))) == ["2", "3", "command_id_reused"]
    assert counted("coupon_gate_rebuilds_total", cause="stuck") == stuck
    await gates_agree(coupons)


async def test_f1_what_was_refused_before_takes_no_place_when_it_comes_again(
    coupons: Coupons,
) -> None:
    """The limit has risen since: the places are for those who ask now."""
    await coupons.run(put(CampaignKind.FIRST_COME, 1), *(issue(number) for number in range(9)))
    await coupons.run(put(CampaignKind.FIRST_COME, 3))
    waits = counted("coupon_waits_total")

    answers = await coupons.run(
        *(issue(number) for number in range(1, 9)), issue(101, 1), issue(102)
    )

    assert said(answers) == ["sold_out"] * 8 + [2, 3]
    assert counted("coupon_waits_total") == waits
    await gates_agree(coupons)


async def test_one_id_for_two_campaigns_asks_at_one_gate(coupons: Coupons) -> None:
    """The first of them counts; the other is refused, and keeps no place there."""
    await coupons.run(
        put(CampaignKind.FIRST_COME, 3),
        put(CampaignKind.FIRST_COME, 3, command_id="put-d", coupon_id="D"),
    )

    answers = await coupons.run(issue(1), issue(1).model_copy(update={"coupon_id": "D"}), issue(2))

    assert sorted(map(str, said(answers))) == ["1", "2", "command_id_reused"]
    gates = await coupons.replica().doorkeeper.gates.read(["C", "D"])
    assert [gate and gate.taken for gate in gates] == [2, None]


async def test_a_gate_is_written_anew_once_however_many_find_it_closed(coupons: Coupons) -> None:
    await coupons.run(put(CampaignKind.FIRST_COME, 3))
    doorkeepers = [coupons.replica(number).doorkeeper for number in range(3)]

    await asyncio.gather(*(one.rebuild({"C": 0}, "closed") for one in doorkeepers))

    assert await coupons.rows("SELECT fence FROM campaign") == [(1,)]


@pytest.mark.parametrize("kind", ASKED)
async def test_who_came_first_is_first_over_all_partitions_of_a_chunk(
    kind: CampaignKind, coupons: Coupons
) -> None:
    """As their timestamps say; within a partition its order stays."""
    await coupons.run(put(kind))
    arrivals = [(1, 30), (1, 50), (0, 10), (0, 40), (2, 20)]
    chunk = []
    for number, (partition, at_ms) in enumerate(arrivals):
        (one,) = deliver(issue(number), partition=partition)
        chunk.append(one._replace(received=one.received._replace(timestamp_ms=at_ms)))

    answers = await coupons.replica().run_chunk(chunk)

    issued = {answer["sequence"]: answer["userId"] for answer in answers if "sequence" in answer}
    assert issued == {1: "u2", 2: "u4", 3: "u0"}


async def test_chunks_are_served_in_the_order_in_which_they_queue(coupons: Coupons) -> None:
    """Those who wait for a row alone are woken together, and overtake each other."""
    await coupons.run(put(CampaignKind.QUEUED, 20))
    number = "(SELECT hashtext('C') & 255)"
    async with coupons.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock(7354, {number})")
        waiting = []
        for turn in range(7):
            chunk = coupons.replica(turn).run(issue(turn))
            waiting.append(asyncio.create_task(chunk))
            await eventually(
                lambda: coupons.rows("SELECT 1 FROM pg_locks WHERE classid = 7354 AND NOT granted"),
                accept=lambda rows, wanted=turn + 1: len(rows) == wanted,
            )

    assert [said(await one) for one in waiting] == [[turn + 1] for turn in range(7)]


@pytest.mark.parametrize("name", ["gates", "probe", "users", "lock", "gate"])
async def test_no_campaigns_name_is_a_key_of_coupons_own(name: str, coupons: Coupons) -> None:
    await coupons.run(put(CampaignKind.FIRST_COME, 3, coupon_id=name))
    await coupons.replica().reconciler.run_once()
    await coupons.replica().doorkeeper.gates.probe()

    answers = await coupons.run(
        *(issue(number).model_copy(update={"coupon_id": name}) for number in range(5))
    )

    assert said(answers) == [1, 2, 3, "sold_out", "sold_out"]
    assert not coupons.replica().doorkeeper.reach.is_away
    await gates_agree(coupons)
