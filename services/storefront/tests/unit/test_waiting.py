"""Who waits: for a place, for an event, for the outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka import ConsumerRecord

from shared.contracts.refusals import CommandRefusal, CommandRefused
from storefront import listening
from storefront.admission import Admission
from storefront.listening import Ear, Listeners
from storefront.main import _order_of
from storefront.patience import Patience
from storefront.problems import ProblemError

if TYPE_CHECKING:
    from shared.contracts.base import Message

WITHIN_S = 5.0


class TestAdmission:
    def test_f62_one_too_many_is_told_to_come_again(self) -> None:
        admission = Admission(2)
        with admission.admitted(), admission.admitted():
            with pytest.raises(ProblemError) as refused, admission.admitted():
                pytest.fail("admitted")
            problem = refused.value
            assert (problem.status, problem.document.reason) == (503, "overloaded")
            assert int(problem.headers["retry-after"]) >= 1
        with admission.admitted(), admission.admitted():
            pass

    def test_a_place_is_free_again_whatever_happens(self) -> None:
        admission = Admission(1)
        for _ in range(3):
            with pytest.raises(KeyError), admission.admitted():
                raise KeyError
        with admission.admitted():
            pass


def refusal(number: int, key: str = "o-1") -> CommandRefused:
    return CommandRefused(
        command_id=f"c-{number}",
        command="PayOrder",
        key=key,
        reason=CommandRefusal.TOO_LATE,
        detail="why",
    )


def record(key: bytes | None, value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", 0, 0, 0, 0, key, value, None, 0, 0, ())  # type: ignore[arg-type]


def of(message: Message, key: str = "o-1") -> ConsumerRecord[bytes, bytes]:
    return record(key.encode(), message.to_bytes())


async def next_of(ear: Ear) -> Message:
    async with asyncio.timeout(WITHIN_S):
        return await ear.next()


@pytest.fixture
def listeners() -> Listeners:
    return Listeners("orders.events.v1", _order_of)


class TestListeners:
    async def test_everybody_hears_what_is_about_theirs(self, listeners: Listeners) -> None:
        with (
            listeners.listen("o-1", "o-1") as one,
            listeners.listen("o-1", "o-1") as two,
            listeners.listen("o-2", "o-2") as other,
        ):
            listeners.take([of(refusal(1)), of(refusal(2, "o-2"), "o-2"), of(refusal(3))])
            for ear in (one, two):
                assert [await next_of(ear), await next_of(ear)] == [refusal(1), refusal(3)]
            assert await next_of(other) == refusal(2, "o-2")

    async def test_who_waits_is_woken(self, listeners: Listeners) -> None:
        with listeners.listen("o-1", "o-1") as ear:
            waiting = asyncio.create_task(next_of(ear))
            await asyncio.sleep(0)
            listeners.take([of(refusal(1))])
            assert await waiting == refusal(1)

    async def test_a_record_under_anothers_key_is_not_read(self, listeners: Listeners) -> None:
        read: list[bytes | None] = []
        listeners._reader.read = read.append  # type: ignore[method-assign,assignment]
        with listeners.listen("o-1", "o-1"):
            listeners.take([of(refusal(1), "o-2"), record(None, b"{}")])
        listeners.take([of(refusal(1))])
        assert read == []

    async def test_what_can_not_be_read_is_passed_over(self, listeners: Listeners) -> None:
        with listeners.listen("o-1", "o-1") as ear:
            listeners.take([record(b"o-1", value) for value in (None, b"", b"{", b"\xff")])
            listeners.take([of(refusal(1))])
            assert await next_of(ear) == refusal(1)

    async def test_of_too_much_the_oldest_is_dropped(self, listeners: Listeners) -> None:
        count = listening.HEARD_AT_MOST + 3
        with listeners.listen("o-1", "o-1") as ear:
            listeners.take([of(refusal(number)) for number in range(count)])
            heard = [await next_of(ear) for _ in range(listening.HEARD_AT_MOST)]
        assert heard == [refusal(number) for number in range(3, count)]

    async def test_nothing_is_kept_of_who_has_gone(self, listeners: Listeners) -> None:
        def leave_twice() -> None:
            with listeners.listen("o-1", "o-1"):
                with listeners.listen("o-1", "o-1"):
                    assert listeners._keys == {b"o-1": 2}
                assert listeners._keys == {b"o-1": 1}
                raise KeyError

        with pytest.raises(KeyError):
            leave_twice()
        assert (listeners._keys, listeners._ears) == ({}, {})


async def lasts(patience: Patience) -> None:
    async with patience.lasting(patience.begin()):
        await asyncio.Event().wait()


class TestPatience:
    async def test_it_ends(self) -> None:
        with pytest.raises(TimeoutError):
            await lasts(Patience(0.01))

    async def test_whoever_is_answered_is_not_troubled(self) -> None:
        patience = Patience(WITHIN_S)
        async with patience.lasting(patience.begin()):
            pass
        patience.end()
        assert not patience._limits

    async def test_it_ends_for_all_at_once_and_for_who_comes_after(self) -> None:
        patience = Patience(3_600)
        waiting = [asyncio.create_task(lasts(patience)) for _ in range(3)]
        await asyncio.sleep(0)
        patience.end()
        async with asyncio.timeout(WITHIN_S):
            found = await asyncio.gather(*waiting, lasts(patience), return_exceptions=True)
        assert [type(one) for one in found] == [TimeoutError] * 4
