"""A process that is killed or told to end, in mid-request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from shared.testing.signals import eventually

from .conftest import WITHIN_S, Simulator

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [f"payment:o-{number}" for number in range(300)]


async def test_f27_a_kill_in_mid_request_loses_no_charge_and_makes_none(
    simulator: Simulator,
) -> None:
    await simulator.faults(
        {"fault": "hang_after_charge", "onlyKeys": ["payment:after"], "times": 1},
        {"fault": "hang_before_charge", "onlyKeys": ["payment:before"], "times": 1},
    )
    waiting = [
        asyncio.create_task(simulator.charge(f"payment:{when}")) for when in ("after", "before")
    ]
    (charge,) = await eventually(lambda: simulator.by_key("payment:after"), within_s=WITHIN_S)
    await eventually(simulator.struck, within_s=WITHIN_S, accept=lambda struck: struck == [1, 1])
    simulator.kill()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(ended, httpx.TransportError)
    await simulator.start()
    after, before = (
        await simulator.charge("payment:after"),
        await simulator.charge("payment:before"),
    )
    assert (after.status_code, after.json()) == (200, charge)
    assert before.status_code == 201


async def test_f27_kills_under_load_charge_each_key_once(simulator: Simulator) -> None:
    answered: dict[str, str] = {}

    async def charge_all(*, kill_at: int | None = None) -> None:
        """Each key until it is answered, from several clients at once; a kill while they wait."""
        left = [key for key in KEYS if key not in answered]

        async def work() -> None:
            while left:
                key = left.pop()
                try:
                    answer = await simulator.charge(key)
                except httpx.TransportError:
                    return
                assert answer.status_code in (200, 201), answer.text
                answered[key] = answer.json()["id"]
                if len(answered) == kill_at:
                    simulator.kill()

        await asyncio.gather(*(work() for _ in range(16)))

    for kill_at in (60, 150, 240):
        await charge_all(kill_at=kill_at)
        assert kill_at <= len(answered) < len(KEYS), "the kill fell on work"
        await simulator.start()
    before = dict(answered)
    await charge_all()
    assert answered.keys() == set(KEYS)
    page = (await simulator.client.get("/v1/charges?limit=1000")).json()["charges"]
    assert {charge["idempotencyKey"]: charge["id"] for charge in page} == answered
    assert len(page) == len(KEYS)
    assert before.items() <= answered.items()
    assert (await simulator.sums())["double_charges"] == 0


async def test_the_end_does_not_wait_for_what_hangs(simulator: Simulator) -> None:
    await simulator.faults(
        {"fault": "hang_before_charge", "keyPrefix": "payment:a"},
        {"fault": "latency", "seconds": 7_200, "keyPrefix": "payment:b"},
    )
    waiting = [asyncio.create_task(simulator.charge(f"payment:{name}")) for name in "ab"]
    await eventually(simulator.struck, within_s=WITHIN_S, accept=lambda struck: struck == [1, 1])
    assert await simulator.end() == 0
    hung, delayed = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(hung, httpx.TransportError), "it got no answer"
    assert isinstance(delayed, httpx.TransportError) or delayed.status_code >= 500
    await simulator.start()
    assert (await simulator.sums())["charges"] == {}


async def test_a_port_that_is_taken_ends_the_process(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Simulator(tmp_path / "other", GATEWAY_PORT=str(simulator.port.port))
    other.spawn()
    assert await asyncio.to_thread(other.process.wait, WITHIN_S) != 0
    assert "address already in use" in other.log.read_text()
    await other.close()
