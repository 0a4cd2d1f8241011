"""A world in memory: one order, three participants with tombstones, the messages between them and
a clock. Messages get lost, come twice and out of order; what must always hold is checked after
each event, and what must hold at rest once all faults have ended.
"""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from order_orchestrator.domain import ENDED, SagaState, StepStatus, waits_for_reply
from order_orchestrator.events import Retry, Start, StepDeadLettered, TimerFired, Transition
from order_orchestrator.saga import STEPS, owed
from order_orchestrator.timing import wake_at
from shared.contracts.base import message_id
from shared.contracts.effects import Effect

OUTCOMES = {"OrderConfirmed", "OrderRejected", "OrderCancelled"}
UNDOABLE = ("reserve", "hold", "charge")


class World:
    """Participants keep one verdict per step, and a tombstone where the undo came first."""

    def __init__(self, order, verdicts):
        self.order = order
        self.verdicts = verdicts  # step -> whether its `do` succeeds
        self.held: dict[str, str] = {}  # step -> done | refused | undone | tombstone | unknown
        self.effects: dict[str, Effect] = {}  # step -> what its undo found, for good
        self.owed_undo = False  # a refund that waits for the gateway's answer
        self.net: list[tuple[datetime, object]] = []  # (sent at, command or reply)
        self.seen: Counter[str] = Counter()
        self._sent = 0
        self._collect()

    def _collect(self):
        for command in self.order.commands[self._sent :]:
            self.net.append((self.order.now, command))
        self._sent = len(self.order.commands)

    def feed(self, event):
        before = self.order.saga
        result = self.order.feed(event)
        after = self.order.saga
        if before.state != after.state:
            self.seen[f"{before.state}>{after.state}"] += 1
        if after.stuck and not before.stuck:
            self.seen["stuck"] += 1
        if isinstance(result, Transition):
            if StepStatus.UNDOING_LATE in after.steps and after.version > before.version:
                self.seen["undone late"] += 1
            if isinstance(event, TimerFired) and after.state is SagaState.COMPENSATING:
                self._given_up(before, after)
        self._collect()
        self.check()
        return result

    def _given_up(self, before, after):
        """No order is undone whose answer was waiting to be read, unless its user cancelled."""
        if before.state is after.state:
            return
        self.seen["given up"] += 1
        if after.ending.state is SagaState.CANCELLED:
            return
        in_doubt = {
            f"o-1:{step.name}:do"
            for step, status in zip(STEPS, before.steps, strict=True)
            if status is StepStatus.SENT
        }
        for sent_at, message in self.net:
            if self._is_reply(message) and message.command_id in in_doubt:
                assert sent_at > before.deadline_at

    def check(self):
        saga = self.order.saga
        if waits_for_reply(saga):
            assert saga.timer_at is not None
            assert saga.timer_at <= max(wake_at(saga, self.order.limits), self.order.now) + (
                self.order.limits.resend_after * 1.5
            )
        if saga.state in ENDED and owed(saga).steps == ():
            assert saga.timer_at is None
        told = [event.type for event in self.order.events if event.type in OUTCOMES]
        assert len(told) == (saga.told is not None)
        if saga.cancel is not None:
            assert saga.state not in (SagaState.COMPLETING, SagaState.CONFIRMED)

    # --- the network and the participants ---

    def _is_reply(self, message):
        return any(type(message) in (step.done, step.refused, step.undone) for step in STEPS)

    def deliver(self, place, *, keep=False):
        _, message = self.net[place] if keep else self.net.pop(place)
        self.seen["repeated"] += keep
        if self._is_reply(message):
            self.feed(message)
        else:
            self._obey(message)

    def _obey(self, command):
        _, step, direction = message_id(command).split(":")
        answer = self._do(step) if direction == "do" else self._undo(step)
        if answer is not None:
            self.net.append((self.order.now, answer))

    def _do(self, step):
        if step not in self.held:
            unknown = step == "charge" and self.verdicts["slow gateway"]
            verdict = "done" if self.verdicts[step] else "refused"
            self.held[step] = "unknown" if unknown else verdict
        match self.held[step]:
            case "done" | "undone":  # the first verdict, again
                return self.order.done(step)
            case "unknown":
                return None
            case _:
                return self.order.refused(step)

    def _undo(self, step):
        if self.held.get(step) == "unknown":
            self.owed_undo = True
            return None
        if step not in self.effects:
            self.effects[step] = Effect.UNDONE if self.held.get(step) == "done" else Effect.NOTHING
            self.held[step] = "undone" if self.held.get(step) == "done" else "tombstone"
        return self.order.undone(step, self.effects[step])

    def gateway_answers(self):
        if self.held.get("charge") != "unknown":
            return
        self.held["charge"] = "done" if self.verdicts["charge"] else "refused"
        self.net.append((self.order.now, self._do("charge")))
        if self.owed_undo:
            self.net.append((self.order.now, self._undo("charge")))

    def lose(self, place):
        self.net.pop(place)
        self.seen["lost"] += 1

    def poison(self, place):
        """A participant can't fold the command, or the orchestrator can't read the reply."""
        _, message = self.net.pop(place)
        self.seen["poisoned"] += 1
        self.feed(StepDeadLettered(message.command_id, "poison"))

    def tick(self, seconds):
        """Time passes; a timer that is due fires. Replies count as read up to the oldest one
        that is still on its way."""
        self.order.wait(seconds)
        saga = self.order.saga
        if saga.timer_at is not None and saga.timer_at <= self.order.now:
            unread = [sent_at for sent_at, message in self.net if self._is_reply(message)]
            oldest = min(unread, default=None)
            read = self.order.now if oldest is None else oldest - timedelta(microseconds=1)
            self.feed(TimerFired(read, self.order.now))

    def come_to_rest(self):
        """All faults end: messages arrive, the gateway answers, operators retry, users pay."""
        for _ in range(300):
            self.gateway_answers()
            saga = self.order.saga
            if self.net:
                self.deliver(0)
            elif saga.state is SagaState.PENDING:
                self.feed(Start())
            elif saga.stuck is not None:
                self.feed(Retry("ops"))
            elif saga.timer_at is not None:
                self.tick(max((saga.timer_at - self.order.now).total_seconds(), 0) + 1)
            else:
                return
        raise AssertionError(f"no rest: {self.order.saga}")

    def check_at_rest(self):
        order, saga = self.order, self.order.saga
        assert saga.state in ENDED
        assert sum(event.type in OUTCOMES for event in order.events) == 1
        assert len({event.event_id for event in order.events}) == len(order.events)
        versions = [event.version for event in order.events]
        assert versions == sorted(set(versions))
        assert [entry.version for entry in order.history] == list(range(1, saga.version + 1))
        if StepStatus.SETTLED in saga.steps:
            self.seen["settled"] += 1
            return
        assert owed(saga).steps == ()
        live = {step for step, verdict in self.held.items() if verdict == "done"}
        if saga.state is SagaState.CONFIRMED:
            wanted = {
                step.name
                for step, status in zip(STEPS, saga.steps, strict=True)
                if status is StepStatus.DONE
            }
            assert live == wanted >= {"reserve", "commit"}
            assert saga.price.total == 0 or "charge" in live
        else:
            assert live == set()
            self._undone_in_reverse()

    def _undone_in_reverse(self):
        """By what was written: the first undo of each step, and when."""
        first = {}
        for place, name in enumerate(self.order.ids(self.order.commands)):
            first.setdefault(name, place)
        undos = [step for step in UNDOABLE if f"{step}:undo" in first]
        places = [first[f"{step}:undo"] for step in undos]
        assert places == sorted(places, reverse=True)
        for step, verdict in self.held.items():
            if verdict == "undone":
                assert first[f"{step}:do"] < first[f"{step}:undo"]


@pytest.fixture(scope="session")
def world():
    return World
