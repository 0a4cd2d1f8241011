"""Commands of many callers: each is told whether the broker has its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import KafkaConnectionError

from shared.kafka import outbound as module
from shared.kafka.outbound import NeverPublishedError, NotPublishedError, Outbound
from shared.kafka.publisher import Record
from shared.testing.signals import Gate

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHIN_S = 5.0


class Broker:
    """Takes lots once the test lets it."""

    def __init__(self) -> None:
        self.lots: list[list[str]] = []
        self.gates: list[Gate] = [Gate() for _ in range(3)]
        self.error: Exception | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        self.lots.append([record.topic for record in records])
        await self.gates[len(self.lots) - 1].stop()
        if self.error is not None:
            raise self.error


def record(name: str) -> Record:
    return Record(name, None, b"", [], 0)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def outbound(broker: Broker) -> Outbound:
    return Outbound(broker, within_s=WITHIN_S)  # type: ignore[arg-type]


async def sent(outbound: Outbound, *names: str) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(outbound.publish(record(name))) for name in names]
    await asyncio.sleep(0)
    return tasks


async def told(tasks: Sequence[asyncio.Task[None]]) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    return [one if one is None else type(one) for one in found]


async def test_what_comes_while_one_lot_is_under_way_goes_together(
    outbound: Outbound, broker: Broker
) -> None:
    first = await sent(outbound, "a", "b")
    running = asyncio.create_task(outbound.run_once())
    await broker.gates[0].reached()
    second = await sent(outbound, "c", "d")
    assert not any(task.done() for task in [*first, *second])
    broker.gates[0].open()
    assert await told(first) == [None, None]
    await running
    assert not any(task.done() for task in second)
    broker.gates[1].open()
    await outbound.run_once()
    assert await told(second) == [None, None]
    assert broker.lots == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("error", [KafkaConnectionError(), OSError(), TimeoutError()])
async def test_f41_a_failure_is_told_to_everybody_of_its_lot(
    outbound: Outbound, broker: Broker, error: Exception
) -> None:
    broker.error = error
    first = await sent(outbound, "a", "b")
    running = asyncio.create_task(outbound.run_once())
    await broker.gates[0].reached()
    second = await sent(outbound, "c")
    broker.gates[0].open()
    with pytest.raises(type(error)):
        await running
    assert await told(first) == [NotPublishedError] * 2
    broker.error = None
    broker.gates[1].open()
    await outbound.run_once()
    assert await told(second) == [None]


async def test_whose_caller_is_gone_is_not_sent(outbound: Outbound, broker: Broker) -> None:
    gone, stays = await sent(outbound, "a", "b")
    gone.cancel()
    await asyncio.sleep(0)
    broker.gates[0].open()
    await outbound.run_once()
    assert await told([stays]) == [None]
    assert broker.lots == [["b"]]


async def test_f41_nobody_waits_longer_than_the_bound(broker: Broker) -> None:
    outbound = Outbound(broker, within_s=0.05)  # type: ignore[arg-type]
    under_way = await sent(outbound, "a")
    running = asyncio.create_task(outbound.run_once())
    await broker.gates[0].reached()
    behind = await sent(outbound, "b")
    # the first may be there or not, the second is not and won't be
    assert await told([*under_way, *behind]) == [NotPublishedError, NeverPublishedError]
    broker.gates[0].open()
    await running
    broker.gates[1].open()
    await outbound.run_once()
    assert broker.lots == [["a"], []]


async def test_f62_what_waits_is_bounded(
    outbound: Outbound, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORDS_WAITING", 2)
    waiting = await sent(outbound, "a", "b")
    assert await told(await sent(outbound, "c")) == [NeverPublishedError]
    broker.gates[0].open()
    await outbound.run_once()
    assert await told(waiting) == [None, None]


async def test_a_lot_is_bounded(
    outbound: Outbound, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORDS_AT_ONCE", 2)
    waiting = await sent(outbound, "a", "b", "c")
    for gate in broker.gates[:2]:
        gate.open()
        await outbound.run_once()
    assert await told(waiting) == [None] * 3
    assert broker.lots == [["a", "b"], ["c"]]
