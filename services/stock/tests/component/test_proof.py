"""The proof: every message twice, three instances that die every few seconds, and each part that
they stand on killed once. Afterwards each command has one verdict and no unit is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from aiokafka.errors import KafkaError

from shared.testing.builders import reserve_stock
from shared.testing.chaos import Chaos, Fault
from shared.testing.signals import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_stack import Stack
    from shared.contracts.base import Message
    from shared.testing.processes import Instance

COMMANDS = "stock.commands.v1"
REPLIES = "stock.replies.v1"
PRODUCTS = 100
INFRASTRUCTURE = ("postgres", "valkey", "kafka")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is sent, in how many batches; an instance is killed in the middle of each."""

    commands: int
    batches: int


DEFAULT = Size(commands=3_000, batches=9)
WHOLE = Size(commands=20_000, batches=40)


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


class Reaper:
    """Kills one instance after the other, each in mid-work, and starts it again at once."""

    def __init__(self, shop: Any, instances: Sequence[Instance]) -> None:
        self.kills: Counter[str] = Counter()
        self.in_mid_work = 0
        """How many kills came before the batch was done."""
        self._shop = shop
        self._waiting = list(instances)
        self._restarts: set[asyncio.Task[None]] = set()

    async def decided(self) -> int:
        """How many commands have their verdict, as far as the database tells."""
        async with self._shop.database.connection("stock") as connection:
            return int(await connection.fetchval("SELECT count(*) FROM reservation"))

    async def strike(self, done: int, due: int) -> None:
        """Once more than `done` commands are decided, kill the instance whose turn it is."""
        await eventually(self.decided, accept=lambda count: count > done, within_s=120)
        await eventually(lambda: self._waiting, within_s=120, describe="an instance is back")
        victim = self._waiting.pop(0)
        await victim.kill()
        self.kills[victim.instance_id] += 1
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            self.in_mid_work += await self.decided() < due
        self._restarts.add(asyncio.create_task(self._restart(victim)))

    async def _restart(self, victim: Instance) -> None:
        await victim.start(ready_within_s=120)
        self._waiting.append(victim)

    async def settle(self) -> None:
        """All instances are back."""
        await asyncio.gather(*self._restarts)


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
    reaper = Reaper(shop, [shop.instance(number) for number in range(3)])
    began_at = asyncio.get_running_loop().time()
    async with Chaos(
        [part_dies(stack, name) for name in INFRASTRUCTURE],
        seed=7, pause_s=(0.5, 2.0), hold_s=(0.0, 0.0), limit=len(INFRASTRUCTURE),
    ) as infrastructure:  # fmt: skip
        for at in range(size.batches):
            done, due = (size.commands * one // size.batches for one in (at, at + 1))
            sending = asyncio.create_task(publish(shop, commands[done:due]))
            await reaper.strike(done, due)
            await sending
        await infrastructure.finished()
        await reaper.settle()
    infrastructure.require(postgres=1, valkey=1, kafka=1)
    assert sum(reaper.kills.values()) >= size.batches
    assert len(reaper.kills) == 3
    assert reaper.in_mid_work >= size.batches // 2, "a death at rest proves little"

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
    figures = {
        "commands": size.commands, "kills": dict(reaper.kills + infrastructure.counts),
        "in mid-work": reaper.in_mid_work, "verdicts": dict(verdicts),
        "replies": sum(map(len, replies.values())), "seconds": round(took_s, 1),
    }  # fmt: skip
    for name, value in figures.items():
        record_property(name, value)
    print(f"\n{figures}")
