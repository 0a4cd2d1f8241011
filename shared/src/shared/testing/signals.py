"""Waiting without sleeping blindly.

A test that sleeps is slow where the machine is fast and wrong where it is slow. `eventually` looks
again and again at what the outside shows, and says on failure what it saw last. `Signal` and `Gate`
are for tests in one process: the code under test fires, the test waits, or the other way round.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

FIRST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.25
INTERVAL_GROWTH = 1.6
VALUES_SHOWN = 6
VALUE_LENGTH = 2_000


class ConditionNotMet(AssertionError):  # noqa: N818 - what pytest shows reads as a sentence
    """A condition did not come true in time; the text has the last values seen."""


class _Looks:
    """What a series of looks has seen, for the error message."""

    def __init__(self) -> None:
        self.count = 0
        self.changes: list[str] = []

    def saw(self, text: str) -> None:
        self.count += 1
        if not self.changes or self.changes[-1] != text:
            self.changes = [*self.changes[-(VALUES_SHOWN - 1) :], text]

    def __str__(self) -> str:
        if not self.changes:
            return "the probe never returned"
        text = f"last value: {self.changes[-1]}"
        if len(self.changes) > 1:
            text += f"\n  values before it, oldest first: {'; '.join(self.changes[:-1])}"
        return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_LENGTH else f"{text[:VALUE_LENGTH]}… ({len(text)} characters)"


async def _call(probe: Callable[[], Awaitable[T] | T]) -> T:
    result = probe()
    return await result if inspect.isawaitable(result) else result


@overload
async def eventually(
    probe: Callable[[], Awaitable[T]],
    *,
    within_s: float = 10.0,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T: ...


@overload
async def eventually(
    probe: Callable[[], T],
    *,
    within_s: float = 10.0,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T: ...
async def eventually(
    probe: Callable[[], Awaitable[T] | T],
    *,
    within_s: float = 10.0,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T:
    """Looks through `probe` until `accept` takes its value, and returns that value.

    The pause between looks grows from 5 to 250 ms, so that a fast answer is seen at once and a slow
    one costs little. An exception of the probe counts as "not yet" and is shown at the end; a probe
    that hangs is cut off. `describe` says what is waited for, as in "order o-1 is confirmed".

    Raises ConditionNotMet after `within_s` seconds, with the last values seen.
    """
    looks = _Looks()
    started_at = time.monotonic()
    deadline = started_at + within_s
    pause_s = FIRST_INTERVAL_S
    error: Exception | None = None
    while True:
        # The last look starts at the deadline: it still gets a moment to answer.
        patience_s = max(deadline - time.monotonic(), 1.0)
        try:
            async with asyncio.timeout(patience_s) as limit:
                value = await _call(probe)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is shown at the end
            error = failure
            hung = limit.expired()
            looks.saw(f"hung for {patience_s:.1f} s" if hung else f"raised {_shown(failure)}")
        else:
            error = None
            if accept(value):
                return value
            looks.saw(_shown(value))
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            waited_s = time.monotonic() - started_at
            what = describe or getattr(probe, "__qualname__", "the condition")
            raise ConditionNotMet(
                f"not within {waited_s:.1f} s ({looks.count} looks): {what}\n  {looks}"
            ) from error
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * INTERVAL_GROWTH, LONGEST_INTERVAL_S)


@overload
async def stays(
    probe: Callable[[], Awaitable[T]],
    *,
    for_s: float,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T: ...


@overload
async def stays(
    probe: Callable[[], T],
    *,
    for_s: float,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T: ...
async def stays(
    probe: Callable[[], Awaitable[T] | T],
    *,
    for_s: float,
    describe: str = "",
    accept: Callable[[T], bool] = bool,
) -> T:
    """Looks through `probe` for `for_s` seconds and fails at once when `accept` refuses a value.

    For what must not happen: there is no signal to wait on, so the time is the strength of the
    proof. Returns the last value. Exceptions of the probe pass through.
    """
    started_at = time.monotonic()
    while True:
        value = await _call(probe)
        if not accept(value):
            after_s = time.monotonic() - started_at
            raise ConditionNotMet(
                f"ceased to hold after {after_s:.1f} s: {describe}\n  value: {_shown(value)}"
            )
        left_s = for_s - (time.monotonic() - started_at)
        if left_s <= 0:
            return value
        await asyncio.sleep(min(left_s, LONGEST_INTERVAL_S / 5))


class Signal(Generic[T]):
    """Something that happens, with a value, perhaps many times; a test waits for it.

    Every value is kept, so that a signal which fires before the test waits is not missed.
    """

    def __init__(self, name: str = "signal") -> None:
        self.name = name
        self.values: list[T] = []
        self._read = 0
        self._waiters: list[asyncio.Future[None]] = []

    def fire(self, value: T) -> None:
        """Records `value` and wakes who waits. Call it in the thread of the event loop."""
        self.values.append(value)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise ConditionNotMet(
                f"not within {within_s:.1f} s: {self.name} {what}\n"
                f"  fired {len(self.values)} times; last values: "
                f"{_shown(self.values[-VALUES_SHOWN:])}"
            ) from None

    async def next(self, *, within_s: float = 10.0) -> T:
        """The oldest value that no call of `next` has returned yet."""
        await self._until(lambda: len(self.values) > self._read, within_s, "fires")
        self._read += 1
        return self.values[self._read - 1]

    async def count(self, times: int, *, within_s: float = 10.0) -> list[T]:
        """All values, once the signal has fired at least `times` times since it was made."""
        await self._until(lambda: len(self.values) >= times, within_s, f"fires {times} times")
        return list(self.values)

    async def matching(self, accept: Callable[[T], bool], *, within_s: float = 10.0) -> T:
        """The first value, past ones included, that `accept` takes."""
        await self._until(
            lambda: any(map(accept, self.values)), within_s, "fires with a value that matches"
        )
        return next(value for value in self.values if accept(value))


class Gate:
    """A place in the code under test where it stops until the test lets it go on.

    The code (or a double of one of its parts) awaits `stop`; the test awaits `reached`, does what
    must happen in between, and calls `open`. An open gate lets everyone through.
    """

    def __init__(self, name: str = "gate") -> None:
        self._arrivals: Signal[None] = Signal(f"{name} is reached:")
        self._opened = asyncio.Event()

    async def stop(self) -> None:
        """Reports the arrival and waits until the gate is open."""
        self._arrivals.fire(None)
        await self._opened.wait()

    async def reached(self, times: int = 1, *, within_s: float = 10.0) -> None:
        """Returns once `stop` has been called at least `times` times."""
        await self._arrivals.count(times, within_s=within_s)

    def open(self) -> None:
        """Lets all through, now and later."""
        self._opened.set()
