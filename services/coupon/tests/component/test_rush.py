"""The proof: 5,000 users ask for 100 coupons, instances die, and Redis is flushed, killed, frozen.

Afterwards exactly 100 have one, numbered 1 to 100, and everybody else is told so once. A batch is
several such rounds at the same time, each with a campaign of its own: every blow hits all of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from shared.contracts import lottery
from shared.testing.answers import Answers
from shared.testing.arrivals import arrivals_of, overtaken
from shared.testing.builders import draw_lottery, enter_lottery, issue_coupon, new_id
from shared.testing.kafka import Record
from shared.testing.kafka_records import Tail, keys_on_all_partitions
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _pytest.mark.structures import ParameterSet

    from local_stack import Stack
    from shared.contracts.coupon import EnterLottery, IssueCoupon

ADMIN = "coupon.admin.v1"
REQUESTS = "coupon.requests.v1"
EVENTS = "coupon.events.v1"
LETTERS = "coupon-requests.dlq.v1"
KINDS: Final = ("first_come", "queued", "locked", "lottery", "conditional")
USERS, COUPONS = 5_000, 100
PUBLISHED_AT_ONCE = 1_000
INSTANCES = 3

MID_SALE = """
SELECT count(*) FROM campaign
WHERE coupon_id = ANY ($1) AND issued < coupon_limit AND (issued > 0 OR entered > 0)
"""
ENTRIES = "SELECT user_id FROM lottery_entry WHERE coupon_id = $1 ORDER BY number"
DECIDED = "SELECT count(*) FROM inbox WHERE starts_with(message_id, $1)"


@dataclass(frozen=True, slots=True)
class Size:
    """How many rounds there are of a kind, by key and spread each: so many at a time, so often."""

    batches: int
    campaigns: int


DEFAULT, WHOLE = Size(1, 1), Size(5, 10)
LONG = [pytest.mark.slow, pytest.mark.timeout(1_800)]
SPREAD_FIRST: Final = ("first_come", "locked")
"""Instances contend most for these where requests lie on all partitions: the default form of
these is that one, and of others the one with keys."""


def cases() -> Iterator[ParameterSet]:
    """Every kind by key and spread; one of the two in its default form as well."""
    for kind in KINDS:
        for spread in (False, True):
            name = f"{kind}-{'spread' if spread else 'keyed'}"
            yield pytest.param(kind, spread, WHOLE, id=f"{name}-whole", marks=LONG)
            if spread == (kind in SPREAD_FIRST):
                yield pytest.param(kind, spread, DEFAULT, id=f"{name}-default")


@dataclass
class Batch:
    """Rounds at the same time: every user of every campaign asks once."""

    kind: str
    campaigns: list[str]
    spread: bool
    chance: Random
    answers: Answers
    blows: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.requests = requests_of(self.kind, self.campaigns, self.chance)

    def some(self, first: float, last: float) -> int:
        """A moment between two users of each campaign: how many requests are decided by then."""
        return self.chance.randint(
            int(first * len(self.campaigns)) or 1, int(last * len(self.campaigns))
        )


def requests_of(
    kind: str, campaigns: Sequence[str], chance: Random
) -> list[IssueCoupon | EnterLottery]:
    """Each campaign's users come in an order of their own, the campaigns at the same time."""
    ask = enter_lottery if kind == "lottery" else issue_coupon
    facts = {"user": {"tier": "gold"}} if kind == "conditional" else None
    orders = [chance.sample(range(USERS), USERS) for _ in campaigns]
    return [
        ask(
            campaign, user_id=f"u{order[place]}", command_id=f"{campaign}-u{order[place]}",
            facts=facts,
        )
        for place in range(USERS)
        for campaign, order in zip(campaigns, orders, strict=True)
    ]  # fmt: skip


async def publish(shop: Any, batch: Batch, first: int, end: int) -> None:
    """Requests by their campaigns' keys, or over all partitions: without a key, or with another."""
    for start in range(first, end, PUBLISHED_AT_ONCE):
        some = batch.requests[start : min(start + PUBLISHED_AT_ONCE, end)]
        if batch.spread:
            keys = (None, f"other-{batch.chance.randrange(100)}")
            some = [Record(one.to_bytes(), batch.chance.choice(keys)) for one in some]
        await shop.topics.publish(REQUESTS, some)


async def kill_in_mid_sale(shop: Any, batch: Batch) -> tuple[int, list[int]]:
    """Some coupons are issued, and those who are about to issue more die: all, or one where the
    others can go on. Returns how many requests are published, and who died."""
    some, more = batch.some(1, 40), 80 * len(batch.campaigns)
    await publish(shop, batch, 0, some)
    await batch.answers.reach(some)
    alone = batch.kind == "locked" if batch.spread else len(batch.campaigns) == 1
    async with shop.rows_locked("campaign", "coupon_id", *batch.campaigns):
        await publish(shop, batch, some, more)
        victims = await shop.wait_for_locks(1 if alone else INSTANCES, *range(INSTANCES))
        if batch.spread:
            victims = [batch.chance.choice(victims)]
        await kill(shop, batch, *victims)
    return more, victims


async def kill(shop: Any, batch: Batch, *numbers: int) -> None:
    """Kill -9, and count the rounds that are in their midst."""
    await asyncio.gather(*(shop.instance(number).kill() for number in numbers))
    async with shop.database.connection("coupon") as connection:
        prefix = f"{batch.campaigns[0].partition('.')[0]}."
        decided = await connection.fetchval(DECIDED, prefix)
        batch.blows["kills"] += len(numbers)
        batch.blows["kills in mid-work"] += len(numbers) * (decided < len(batch.requests))
        batch.blows["rounds killed in mid-sale"] += await connection.fetchval(
            MID_SALE, batch.campaigns
        )


async def lose_redis(shop: Any, stack: Stack, batch: Batch, how: str) -> None:
    """Flushed while coupons are left, and once more later; in between it dies or stands still."""
    await batch.answers.reach(batch.some(1, 100))
    await shop.flush()
    await batch.answers.reach(batch.some(1, USERS * 0.5))
    if how == "redis killed":
        await asyncio.to_thread(stack.kill, "valkey")
        await asyncio.to_thread(stack.wait_healthy, "valkey")
    elif how == "redis frozen":
        pid = stack.env().pid("valkey")
        os.kill(pid, signal.SIGSTOP)
        try:
            more = len(batch.answers.said) + batch.some(100, 1_000)
            await batch.answers.reach(min(more, len(batch.requests)))
        finally:
            os.kill(pid, signal.SIGCONT)
    batch.blows["redis flushed"] += 2
    if how != "flushed":
        batch.blows[how] += 1
    await batch.answers.reach(batch.some(USERS * 0.5, USERS * 0.95))
    await shop.flush()


async def rush(shop: Any, batch: Batch, turn: int) -> None:
    """All requests come; instances die while coupons are left, and in later batches once more."""
    published, victims = await kill_in_mid_sale(shop, batch)
    async with asyncio.TaskGroup() as group:
        group.create_task(publish(shop, batch, published, len(batch.requests)))
        await shop.start(*victims)
        if turn > 0:
            await batch.answers.reach(batch.some(100, USERS * 0.8))
            victim = batch.chance.randrange(INSTANCES)
            await kill(shop, batch, victim)
            await shop.start(victim)
        await batch.answers.reach(len(batch.requests))


async def draw(shop: Any, batch: Batch) -> None:
    """An instance dies while winners get their coupons."""
    draws = [draw_lottery(one, command_id=f"draw-{one}") for one in batch.campaigns]
    await shop.topics.publish(ADMIN, draws)
    await batch.answers.reach(len(batch.requests) + 1)
    victim = batch.chance.randrange(INSTANCES)
    await kill(shop, batch, victim)
    await shop.start(victim)
    await batch.answers.reach(len(batch.requests) + len(draws))
    await eventually(lambda: not_full(shop, batch), accept=lambda left: left == 0, within_s=60)


async def not_full(shop: Any, batch: Batch) -> int:
    async with shop.database.connection("coupon") as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM campaign WHERE coupon_id = ANY ($1)"
                " AND issued < coupon_limit", batch.campaigns,
            )
        )  # fmt: skip


def numbers_of(batch: Batch) -> dict[str, dict[str, int]]:
    """Who got which coupon of each campaign; every request has one verdict."""
    verdicts: Counter[str] = Counter()
    numbers: dict[str, dict[str, int]] = {one: {} for one in batch.campaigns}
    for request in batch.requests:
        said = batch.answers.said[request.command_id]
        if batch.kind == "lottery":
            assert said.keys() | {"CouponIssued"} == {"LotteryEntered", "CouponIssued"}
        else:
            assert len(said) == 1, f"more than one verdict: {said}"
        for name in said:
            answer = batch.answers.one(request.command_id, name)
            assert (answer["couponId"], answer["userId"]) == (request.coupon_id, request.user_id)
            verdicts[answer.get("reason", name)] += 1
            if name == "CouponIssued":
                assert request.user_id not in numbers[request.coupon_id]
                numbers[request.coupon_id][request.user_id] = answer["sequence"]
    issued = COUPONS * len(batch.campaigns)
    others = {"LotteryEntered": len(batch.requests)} if batch.kind == "lottery" else {
        "sold_out": len(batch.requests) - issued
    }  # fmt: skip
    assert verdicts == {"CouponIssued": issued, **others}
    for given in numbers.values():
        assert sorted(given.values()) == list(range(1, COUPONS + 1))
    return numbers


async def require_draw(
    shop: Any, batch: Batch, puts: Answers, campaign: str, given: dict[str, int]
) -> None:
    """The winners are those that anyone can recompute, in their order."""
    async with shop.database.connection("coupon") as connection:
        entries = await connection.fetch(ENTRIES, campaign)
    users = [row["user_id"] for row in entries]
    assert len(set(users)) == USERS
    put = puts.one(f"put-{campaign}", "CampaignPut")
    drawn = batch.answers.one(f"draw-{campaign}", "LotteryDrawn")
    assert put["seedHash"] == lottery.seed_hash(drawn["seed"])
    assert drawn["entriesHash"] == lottery.entries_hash(users)
    assert (drawn["entryCount"], drawn["winnerCount"]) == (USERS, COUPONS)
    assert sorted(given, key=given.__getitem__) == lottery.winners(drawn["seed"], users, COUPONS)


async def require_batch(
    shop: Any, batch: Batch, puts: Answers, arrivals: dict[str, dict[int, list[str]]]
) -> None:
    """Each round gave out what it had, and a queued one in the order of arrival."""
    for campaign, given in numbers_of(batch).items():
        if batch.kind == "lottery":
            await require_draw(shop, batch, puts, campaign, given)
            continue
        places = arrivals[campaign].values()
        passed = sum([overtaken(users, given) for users in places])
        batch.blows["users overtaken"] += passed
        if batch.kind == "queued":
            assert passed == 0
        if batch.kind == "queued" and not batch.spread:
            (arrived,) = places
            assert sorted(given, key=given.__getitem__) == arrived[:COUPONS]


@pytest.mark.parametrize(("kind", "spread", "size"), list(cases()))
async def test_f63_exactly_as_many_as_there_are_whoever_dies(
    shop: Any,
    stack: Stack,
    kind: str,
    spread: bool,
    size: Size,
    record_property: Callable[[str, object], None],
) -> None:
    """`spread` puts a campaign's requests on all partitions, so that instances contend for it."""
    await shop.start(*range(INSTANCES), CHUNK_MESSAGES="100")
    chance = Random(f"{kind} {spread}")
    figures: Counter[str] = Counter()
    began_at = asyncio.get_running_loop().time()
    for turn in range(size.batches):
        campaigns = keys_on_all_partitions(f"{new_id('batch')}.", size.campaigns)
        async with Answers.followed(shop.topics.connection, EVENTS) as puts:
            await shop.put_all(kind, campaigns, COUPONS)
            await puts.reach(len(campaigns))
        requests = await Tail.open(shop.topics.connection, REQUESTS, from_end=True)
        async with Answers.followed(shop.topics.connection, EVENTS) as answers:
            batch = Batch(kind, campaigns, spread, chance, answers)
            how = ("flushed", "redis killed", "redis frozen")[(turn + KINDS.index(kind)) % 3]
            async with asyncio.TaskGroup() as group:
                group.create_task(rush(shop, batch, turn))
                group.create_task(lose_redis(shop, stack, batch, how))
            if kind == "lottery":
                await draw(shop, batch)
            await shop.rest(within_s=120)
        stopped = await shop.total("pipeline_retries_total", cause="constraint")
        assert stopped == 0, "locks are enough: no constraint has to stop a chunk"
        await requests.catch_up()
        await requests.consumer.stop()
        await require_batch(shop, batch, puts, arrivals_of(requests.records))
        figures.update(batch.blows)
    assert await shop.topics.read(LETTERS) == []
    (await shop.audit()).require()
    rounds = size.batches * size.campaigns
    assert figures["rounds killed in mid-sale"] >= rounds, "a death at rest proves little"
    took_s = asyncio.get_running_loop().time() - began_at
    shown = {"kind": kind, "spread": spread, "rounds": rounds, **figures, "s": round(took_s, 1)}
    for label, value in shown.items():
        record_property(label, value)
    print(f"\n{shown}")
