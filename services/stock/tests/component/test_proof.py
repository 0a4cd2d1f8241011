"""The proof: every message twice, three instances that die every few seconds, and each part that
they stand on killed once. Afterwards each command has one verdict and no unit is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import KafkaError

from shared.testing.builders import reserve_stock
from shared.testing.chaos import Chaos, Fault, faults_of
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_stack import Stack
    from shared.contracts.base import Message

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"
PRODUCTS = 100
INFRASTRUCTURE = ("postgres", "valkey", "kafka")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is sent, and how much must be broken meanwhile."""

    commands: int
    kills: int
    batches: int


DEFAULT = Size(commands=3_000, kills=4, batches=8)
WHOLE = Size(commands=20_000, kills=15, batches=30)


def part_dies(stack: Stack, name: str) -> Fault:
    """Kill -9 of a part of the infrastructure; its supervisor starts it again."""

    async def kill() -> None:
        await asyncio.to_thread(stack.kill, name)

    async def wait() -> None:
        await asyncio.to_thread(stack.wait_healthy, name)

    return Fault(name, name, kill, wait)


async def publish(shop: Any, batch: Sequence[Message]) -> None:
    """Every message twice; again where the broker was away, so that some come more often."""
    while True:
        try:
            await shop.topics.publish(COMMANDS, [*batch, *batch])
        except (KafkaError, OSError):
            continue
        return


async def killed(chaos: Chaos, times: int) -> None:
    """Returns once so many instances were killed and are back."""
    await eventually(lambda: chaos.counts["kill"], within_s=120, accept=lambda n: n >= times)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(DEFAULT, id="default"),
        pytest.param(WHOLE, id="whole", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
async def test_every_command_has_one_verdict_whatever_dies(
    shop: Any, stack: Stack, size: Size, record_property: Callable[[str, object], None]
) -> None:
    await shop.start(0, 1, 2)
    of_each = size.commands * 4 // 5 // PRODUCTS
    products = await shop.put(of_each, count=PRODUCTS)
    commands = [
        reserve_stock(f"{size.commands}-{at}", items={products[at % PRODUCTS]: 1})
        for at in range(size.commands)
    ]
    step = size.commands // size.batches
    batches = [commands[start : start + step] for start in range(0, size.commands, step)]
    instances = [shop.instance(number) for number in range(3)]
    began_at = asyncio.get_running_loop().time()
    async with (
        Chaos(
            [fault for one in instances for fault in faults_of(one, kinds=("kill",))],
            seed=20, pause_s=(0.3, 1.5), hold_s=(0.0, 0.5),
        ) as processes,
        Chaos(
            [part_dies(stack, name) for name in INFRASTRUCTURE],
            seed=7, pause_s=(1.0, 3.0), hold_s=(0.0, 0.0), limit=len(INFRASTRUCTURE),
        ) as infrastructure,
    ):  # fmt: skip
        for at, batch in enumerate(batches):
            await publish(shop, batch)
            # the stream lasts as long as the dying does
            await killed(processes, at * size.kills // len(batches))
        await infrastructure.finished()
        await killed(processes, size.kills)
    infrastructure.require(postgres=1, valkey=1, kafka=1)
    processes.require(kill=size.kills)
    assert {target for _, target in processes.log} == {"stock-0", "stock-1", "stock-2"}

    await shop.check(within_s=120)
    took_s = asyncio.get_running_loop().time() - began_at
    assert await shop.topics.read("stock.dlq.v1") == []
    replies: dict[str, list[Message]] = {command.command_id: [] for command in commands}
    for record in await shop.topics.read(REPLIES):
        if record.json["commandId"] in replies:
            replies[record.json["commandId"]].append(record.message)
    contradictions = [said for said in replies.values() if any(one != said[0] for one in said)]
    assert contradictions == []
    assert min(map(len, replies.values())) >= 2, "each copy is answered"
    verdicts = Counter(said[0].type for said in replies.values())
    assert verdicts == {
        "StockReserved": of_each * PRODUCTS,
        "StockRefused": size.commands - of_each * PRODUCTS,
    }
    for product in products:
        assert await shop.counters(product) == (0, of_each, 0, of_each)
    record_property("kills", dict(processes.counts + infrastructure.counts))
    record_property("verdicts", dict(verdicts))
    record_property("replies", sum(map(len, replies.values())))
    record_property("seconds", round(took_s, 1))
    print(
        f"\n{size.commands} commands, {dict(processes.counts + infrastructure.counts)} killed,"
        f" {dict(verdicts)}, {sum(map(len, replies.values()))} replies, {took_s:.1f} s"
    )
