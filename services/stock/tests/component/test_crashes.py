"""An instance that dies at each named point, and what the next start makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.stock import StockCommitted, StockReleased, StockReserved
from shared.testing.builders import adjust_stock, commit_stock, new_id, release_stock, reserve_stock
from shared.testing.kafka import Record
from shared.testing.processes import CRASHED

if TYPE_CHECKING:
    from shared.contracts.base import Message

COMMANDS = "stock.commands.v1"
ADMIN = "stock.admin.v1"
EVENTS = "stock.events.v1"
LETTERS = "stock.dlq.v1"


async def crash(shop: Any, point: str) -> None:
    """Start stock-0, which is to end itself there."""
    instance = shop.instance(0, CHUNK_MESSAGES="20")
    instance.spawn(crash_point=point)
    assert await instance.exited(within_s=60) == CRASHED


@pytest.mark.parametrize(
    "points",
    [
        ("after_load:2", "after_load"),
        ("before_commit:2", "before_commit"),
        ("after_commit:2", "after_commit"),
        pytest.param(("after_publish:2", "after_publish"), id="f34"),
        # the offsets are told to the broker: what is left to the next start is the outbox
        ("after_offset_commit",),
    ],
    ids=lambda points: points[-1],
)
async def test_every_command_has_one_verdict_wherever_an_instance_dies(
    shop: Any, points: tuple[str, ...]
) -> None:
    """Several chunks lie there, one of them with a message at fault. The first start dies once
    some of it is done, the second one sooner: while it clears up after the first."""
    await shop.start(0, CHUNK_MESSAGES="20")
    (lamp,) = await shop.put(30)
    await shop.rest()
    await shop.instance(0).kill()

    ids = [new_id("o") for _ in range(50)]
    commands: list[Message] = [reserve_stock(order_id, items={lamp: 1}) for order_id in ids]
    commands += [commit_stock(order_id) for order_id in ids[:5]]
    commands += [release_stock(order_id) for order_id in ids[5:10]]
    await shop.publish(*commands)
    poison = new_id("poison")
    await shop.topics.publish(COMMANDS, [Record(b"{", poison)])
    for point in points:
        await crash(shop, point)
    await shop.start(0)

    replies = await shop.verdicts(commands, within_s=60)
    letter = await shop.letter(LETTERS, lambda one: one.key == poison)
    assert letter.value == b"{"
    await shop.check()
    kinds = [type(reply) for reply in replies]
    sold, released = (
        kinds.count(StockCommitted),
        sum(isinstance(reply, StockReleased) and reply.effect == "undone" for reply in replies),
    )
    reserved = kinds.count(StockReserved)
    # what was released may have gone to an order that came later
    assert 30 <= reserved <= 30 + released
    assert await shop.counters(lamp) == (
        30 - reserved + released, reserved - sold - released, sold, 30,
    )  # fmt: skip


async def test_f34_what_was_published_before_the_death_is_published_again_and_not_done_again(
    shop: Any,
) -> None:
    await shop.start(0, CHUNK_MESSAGES="20")
    (lamp,) = await shop.put(30)
    await shop.rest()
    await shop.instance(0).kill()
    order_id = new_id("o")
    command = reserve_stock(order_id, items={lamp: 2})
    more = adjust_stock(lamp, delta=5)
    await shop.publish(command)
    await crash(shop, "after_publish")
    (first,) = await shop.verdicts([command])
    assert isinstance(first, StockReserved)
    await shop.topics.publish(ADMIN, [more])
    # the sweeper's publishing counts as well: it dies again, over the same chunk
    await crash(shop, "after_publish")
    await shop.start(0)
    # twice by those who died and once more by a sweeper; the message itself came again, too
    assert await shop.verdicts([command], times=3) == [first]
    await shop.said(EVENTS, [more.command_id])
    await shop.check()
    assert await shop.counters(lamp) == (33, 2, 0, 35)
