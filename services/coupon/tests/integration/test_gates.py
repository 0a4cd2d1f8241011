"""The scripts on a real server: whom gates admit, what they remember, and when they are closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coupon.gates import GATES, Answer, Ask, Gate, Gates
from shared.redis import RedisAwayError
from shared.testing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.testing.valkey import Valkey

FENCE = 7


def ask(number: int, user: int | None = None, *, campaign: str = "C", fence: int = FENCE) -> Ask:
    return Ask(campaign, f"u{number if user is None else user}", f"i-{number}", fence)


@pytest.fixture
async def gates(valkey: Valkey) -> AsyncIterator[Gates]:
    """C has 3 coupons of which one is issued, D has one."""
    gates = Gates(valkey.url)
    await gates.write([("C", Gate(1, 3, FENCE, 0)), ("D", Gate(0, 1, FENCE, 0))])
    yield gates
    await gates.close()


async def taken(gates: Gates) -> list[int | None]:
    return [gate and gate.taken for gate in await gates.read(["C", "D"])]


async def test_as_many_are_admitted_as_there_are_coupons_each_user_once(gates: Gates) -> None:
    answers = await gates.admit(
        [ask(1), ask(1), ask(2, 1), ask(3, campaign="D"), ask(4), ask(5), ask(6, campaign="D")]
    )

    assert answers == [
        Answer.ADMITTED, Answer.ADMITTED_BEFORE, Answer.TAKEN, Answer.ADMITTED, Answer.ADMITTED,
        Answer.FULL, Answer.FULL,
    ]  # fmt: skip
    assert await taken(gates) == [3, 1]


async def test_what_is_given_back_is_admitted_again_and_given_back_once(gates: Gates) -> None:
    await gates.admit([ask(1), ask(2)])

    for _ in range(2):
        await gates.give_back(ask(1))
    await gates.give_back(ask(9, 2))  # another command of the user was admitted

    assert await taken(gates) == [2, 0]
    assert await gates.admit([ask(3), ask(4)]) == [Answer.ADMITTED, Answer.FULL]


async def test_what_was_admitted_by_an_older_gate_is_not_given_back(gates: Gates) -> None:
    await gates.admit([ask(1)])
    await gates.write([("C", Gate(1, 3, FENCE + 1, 0))])
    await gates.admit([ask(1, fence=FENCE + 1)])

    await gates.give_back(ask(1))

    assert await taken(gates) == [2, 0]


async def test_f57_a_lost_reply_is_asked_for_again(valkey: Valkey, gates: Gates) -> None:
    async with Proxy.before(valkey.url) as proxy:
        behind = Gates(proxy.through(valkey.url))
        try:
            await behind.admit([ask(1)])
            proxy.lose_reply_to(b"EVALSHA")
            answers = await behind.admit([ask(2)])
        finally:
            await behind.close()
    assert proxy.stats.replies_lost == 1
    assert answers == [Answer.ADMITTED_BEFORE]
    assert await taken(gates) == [3, 0]


async def test_f56_a_server_that_forgets_the_scripts_all_the_time_is_unnoticed(
    valkey: Valkey, gates: Gates
) -> None:
    over = False

    async def forget() -> None:
        while not over:
            await valkey.client.script_flush()

    forgetting = [asyncio.create_task(forget()) for _ in range(2)]
    for number in range(200):
        await gates.write([("D", Gate(0, 1, number, 0))])
        assert await gates.admit([ask(number, campaign="D", fence=number)]) == [Answer.ADMITTED]
    over = True
    await asyncio.gather(*forgetting)


@pytest.mark.parametrize(
    "loss",
    ["flushed", "other server", "other fence", "never written", "no hash", "no number", "no users"],
)
async def test_f54_a_gate_that_is_not_surely_true_is_closed(
    loss: str, valkey: Valkey, gates: Gates
) -> None:
    fence, campaign = FENCE, "C"
    match loss:
        case "flushed":
            await valkey.client.flushdb()
        case "other server":
            await valkey.client.hset("{coupon}:gate:C", "run", "0" * 40)
        case "other fence":
            fence += 1
        case "never written":
            campaign = "E"
        case "no hash":
            await valkey.client.set("{coupon}:gate:C", "no gate")
        case "no number":
            await valkey.client.hset("{coupon}:gate:C", "taken", "many")
        case "no users":
            await valkey.client.set("{coupon}:users:C", "no hash")

    asked = [ask(1, campaign=campaign, fence=fence), ask(2, campaign="D")]
    other = Answer.CLOSED if loss == "flushed" else Answer.ADMITTED
    assert await gates.admit(asked) == [Answer.CLOSED, other]
    await gates.give_back(asked[0])
    await gates.write([(campaign, Gate(2, 3, FENCE + 2, 0))])
    again = [ask(n, campaign=campaign, fence=FENCE + 2) for n in (1, 2)]
    assert await gates.admit(again) == [Answer.ADMITTED, Answer.FULL]


async def test_a_gate_that_is_written_twice_by_one_call_keeps_what_came_in_between(
    valkey: Valkey, gates: Gates
) -> None:
    async with Proxy.before(valkey.url) as proxy:
        behind = Gates(proxy.through(valkey.url))
        try:
            await behind.write([("D", Gate(0, 1, FENCE, 0))])
            proxy.lose_reply_to(b"EVALSHA")
            await behind.write([("C", Gate(0, 3, FENCE, 0))])
        finally:
            await behind.close()
    assert proxy.stats.replies_lost == 1
    assert await taken(gates) == [0, 0]


async def test_only_gates_that_stand_before_a_campaign_are_kept(
    valkey: Valkey, gates: Gates
) -> None:
    await gates.admit([ask(1), ask(2, campaign="D")])

    assert await gates.forget_all_but(["D"]) == 1

    assert await taken(gates) == [None, 1]
    assert set(await valkey.client.keys("*")) == {GATES, "{coupon}:gate:D", "{coupon}:users:D"}
    assert await valkey.client.smembers(GATES) == {"D"}


async def test_f55_gates_have_no_time_to_live(valkey: Valkey, gates: Gates) -> None:
    """What has one may be thrown out where memory is short."""
    await gates.admit([ask(1)])

    assert {await valkey.client.ttl(key) for key in await valkey.client.keys("*")} == {-1}


async def test_locks_are_taken_all_or_none_and_renewed_by_their_holder(
    valkey: Valkey, gates: Gates
) -> None:
    assert await gates.lock(["A", "B"], "me", 10)
    assert await gates.lock(["A", "B"], "me", 20), "a reply that was lost changes nothing"
    assert not await gates.lock(["B", "C"], "you", 10)
    assert await gates.lock(["C"], "you", 10), "nothing is kept of what wasn't held whole"
    assert 10_000 < await valkey.client.pttl("{coupon}:lock:A") <= 20_000

    assert await gates.unlock(["A", "B"], "you") == 0
    assert await gates.unlock(["A", "B"], "me") == 2
    assert await gates.lock(["A", "B"], "you", 10)


async def test_f60_away_is_said_soon(valkey: Valkey, gates: Gates) -> None:
    async with Proxy.before(valkey.url) as proxy:
        behind = Gates(proxy.through(valkey.url))
        try:
            await proxy.refuse()
            with pytest.raises(RedisAwayError):
                await behind.admit([ask(1)])
            await proxy.accept()
            assert await behind.admit([ask(1)]) == [Answer.ADMITTED]
        finally:
            await behind.close()
