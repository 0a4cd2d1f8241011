"""What a receiver of callbacks gets to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.testing.signals import eventually

from .conftest import WITHIN_S

if TYPE_CHECKING:
    from .conftest import Receiver, Simulator


async def states(simulator: Simulator, **expected: int) -> None:
    """Returns once the book counts just these events."""
    await eventually(
        lambda: webhooks(simulator),
        within_s=WITHIN_S,
        accept=lambda found: found == expected,
        describe=f"webhooks are {expected}",
    )


async def webhooks(simulator: Simulator) -> dict[str, int]:
    found: dict[str, int] = (await simulator.sums())["webhooks"]
    return found


async def test_a_charge_and_its_refund_are_told_of_and_signed(
    simulator: Simulator, receiver: Receiver
) -> None:
    charge = (await simulator.charge(callbackUrl=receiver.url)).json()
    (call,) = await receiver.calls.count(1, within_s=WITHIN_S)
    assert call.is_genuine
    assert call.event.keys() == {"id", "type", "createdAt", "data"}
    assert call.event["id"].startswith("evt_")
    assert (call.event["type"], call.event["data"]) == ("charge.captured", charge)
    refund = (await simulator.refund(charge["id"], callbackUrl=receiver.url)).json()
    call = (await receiver.calls.count(2, within_s=WITHIN_S))[1]
    assert (call.event["type"], call.event["data"]) == ("refund.succeeded", refund)
    await states(simulator, delivered=2)


async def test_a_replay_tells_nothing_again(simulator: Simulator, receiver: Receiver) -> None:
    for _ in range(2):
        await simulator.charge(callbackUrl=receiver.url)
    await states(simulator, delivered=1)
    assert len(receiver.calls.values) == 1


async def test_a_decline_is_told_of(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults({"fault": "decline"})
    await simulator.charge(callbackUrl=receiver.url)
    assert await receiver.types(1) == ["charge.declined"]


async def test_processing_is_told_of_before_its_outcome(
    simulator: Simulator, receiver: Receiver
) -> None:
    await simulator.faults({"fault": "processing", "seconds": 0})
    charge = (await simulator.charge(callbackUrl=receiver.url)).json()
    assert await receiver.types(2) == ["charge.processing", "charge.captured"]
    await simulator.refund(charge["id"], callbackUrl=receiver.url)
    assert (await receiver.types(4))[2:] == ["refund.processing", "refund.succeeded"]


async def test_what_is_not_taken_comes_again_under_its_id(
    simulator: Simulator, receiver: Receiver
) -> None:
    receiver.status = 500
    await simulator.charge(callbackUrl=receiver.url)
    await receiver.calls.count(2, within_s=WITHIN_S)
    receiver.status = 204
    await states(simulator, delivered=1)
    calls = receiver.calls.values
    assert len(calls) >= 3
    assert len({call.event["id"] for call in calls}) == 1
    assert all(call.is_genuine for call in calls)


async def test_a_receiver_that_restarts_misses_nothing(
    simulator: Simulator, receiver: Receiver
) -> None:
    await simulator.charge("payment:a", callbackUrl=receiver.url)
    await states(simulator, delivered=1)
    receiver.hang_up()
    await simulator.charge("payment:b", callbackUrl=receiver.url)
    await states(simulator, delivered=2)


async def test_an_event_outlives_a_kill(simulator: Simulator, receiver: Receiver) -> None:
    receiver.status = 503
    await simulator.charge(callbackUrl=receiver.url)
    (first, *_) = await receiver.calls.count(1, within_s=WITHIN_S)
    simulator.kill()
    receiver.status = 200
    simulator.edit("UPDATE event SET due_ms = 0")
    await simulator.start()
    await states(simulator, delivered=1)
    assert {call.event["id"] for call in receiver.calls.values} == {first.event["id"]}


async def test_duplicate_webhooks(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults({"fault": "duplicate_webhooks", "times": 2})
    await simulator.charge(callbackUrl=receiver.url)
    calls = await receiver.calls.count(3, within_s=WITHIN_S)
    assert len({call.event["id"] for call in calls}) == 1
    await states(simulator, delivered=1)
    assert len(receiver.calls.values) == 3


async def test_shuffle_webhooks(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults({"fault": "shuffle_webhooks"})
    await simulator.charge(callbackUrl=receiver.url)
    assert await receiver.types(2) == ["charge.captured", "charge.processing"]
    await simulator.faults({"fault": "processing", "seconds": 0.01}, {"fault": "shuffle_webhooks"})
    await simulator.charge("payment:o-2", callbackUrl=receiver.url)
    assert (await receiver.types(4))[2:] == ["charge.captured", "charge.processing"]


async def test_drop_webhooks(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults({"fault": "drop_webhooks", "onlyKeys": ["payment:a"]})
    await simulator.charge("payment:a", callbackUrl=receiver.url)
    await simulator.charge("payment:b", callbackUrl=receiver.url)
    await states(simulator, delivered=1, dropped=1)
    (call,) = receiver.calls.values
    assert call.event["data"]["reference"] == "b"


async def test_bad_signature(simulator: Simulator, receiver: Receiver) -> None:
    await simulator.faults({"fault": "bad_signature"})
    await simulator.charge(callbackUrl=receiver.url)
    (call,) = await receiver.calls.count(1, within_s=WITHIN_S)
    assert not call.is_genuine
    assert call.event["type"] == "charge.captured"
