"""A world in memory: one order, three participants with tombstones, the messages between them and
a clock. Messages get lost, come twice and out of order; what must always hold is checked after
each event, and what must hold at rest once all faults have ended.
"""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from order_orchestrator.domain import ENDED, SagaState, StepStatus
from order_orchestrator.events import (
    Retry,
    Settle,
    Start,
    StepDeadLettered,
    TimerFired,
    Transition,
)
from order_orchestrator.requests import settleable
from order_orchestrator.saga import CHARGE, STEPS, owed
from order_orchestrator.timing import hangs_at_gateway, waits_for_reply, wake_at
from shared.contracts.base import message_id
from shared.contracts.effects import Effect
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import PaymentCharged

OUTCOMES = {"OrderConfirmed", "OrderRejected", "OrderCancelled"}
UNDOABLE = ("reserve", "hold", "charge")
NEVER = timedelta.max


class World:
    """Participants keep one verdict per step, and a tombstone where the undo came first."""

    def __init__(self, order, verdicts, slow=None):
        self.order = order
        self.verdicts = verdicts  # step -> whether its `do` succeeds
        self.slow = slow  # the gateway's answer comes so long after the charge; None: at once
        self.answers_at: datetime | None = None
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
        if isinstance(event, PaymentCharged):
            self._charged(before, result)
        self._collect()
        self.check()
        return result

    def _held_until(self, saga):
        window = self.order.limits.settlement_window
        at_gateway = saga.payment.method is PaymentMethod.GATEWAY
        charging = saga.state is SagaState.CHARGING and at_gateway
        return saga.deadline_at + (window if charging else timedelta(0))

    def _charged(self, before, result):
        """A charge may confirm an order while it is held. After the end it changes nothing, unless
        an operator had written it off: then it is undone."""
        if before.state is SagaState.CHARGING and self.order.saga.state is SagaState.COMPLETING:
            in_window = before.deadline_at < self.order.now <= self._held_until(before)
            self.seen["confirmed in the window"] += in_window
        if before.state in (SagaState.REJECTED, SagaState.CANCELLED):
            self.seen["charged after the end"] += 1
            undos = self.order.ids(result.commands) if isinstance(result, Transition) else []
            written_off = before.steps[CHARGE] is StepStatus.SETTLED
            assert undos == ["charge:undo"] * written_off

    def _given_up(self, before, after):
        """No order is undone before its hold ends, or whose answer was waiting to be read, unless
        its user cancelled."""
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
        if not in_doubt:
            return  # it awaited its payment
        held_until = self._held_until(before)
        assert self.order.now >= held_until
        self.seen["given up past the window"] += held_until > before.deadline_at
        for sent_at, message in self.net:
            if self._is_reply(message) and message.command_id in in_doubt:
                assert sent_at > held_until

    def check(self):
        saga = self.order.saga
        if saga.stuck is None and (waits_for_reply(saga) or hangs_at_gateway(saga)):
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
            at_gateway = self.order.saga.payment.method is PaymentMethod.GATEWAY
            unknown = step == "charge" and at_gateway and self.slow is not None
            verdict = "done" if self.verdicts[step] else "refused"
            self.held[step] = "unknown" if unknown else verdict
            if unknown and self.slow != NEVER:
                self.answers_at = self.order.now + self.slow
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
        """Payment learns what came of the charge, and says so."""
        if self.held.get("charge") != "unknown" or self.slow == NEVER:
            return
        at = min(filter(None, (self.answers_at, self.order.now)))
        if self.order.saga.state is SagaState.CHARGING:
            held_until, deadline_at = self._held_until(self.order.saga), self.order.saga.deadline_at
            self.seen["answered in the window"] += deadline_at < at <= held_until
        self.seen["answered after it was given up"] += self.owed_undo
        self.held["charge"] = "done" if self.verdicts["charge"] else "refused"
        charged = self._do("charge")
        if self.owed_undo:  # what became of the charge itself may be heard last
            self.net.append((at, self._undo("charge")))
        self.net.append((at, charged))

    def lose(self, place):
        self.net.pop(place)
        self.seen["lost"] += 1

    def poison(self, place):
        """A participant can't fold the command, or the orchestrator can't read the reply."""
        _, message = self.net.pop(place)
        self.seen["poisoned"] += 1
        self.feed(StepDeadLettered(message.command_id, "poison"))

    def tick(self, seconds):
        """Time passes; the gateway may answer meanwhile, and a timer that is due fires. Replies
        count as read up to the oldest one that is still on its way."""
        self.order.wait(seconds)
        if self.answers_at is not None and self.answers_at <= self.order.now:
            self.gateway_answers()
        saga = self.order.saga
        if saga.timer_at is not None and saga.timer_at <= self.order.now:
            unread = [sent_at for sent_at, message in self.net if self._is_reply(message)]
            oldest = min(unread, default=None)
            read = self.order.now if oldest is None else oldest - timedelta(microseconds=1)
            self.feed(TimerFired(read, self.order.now))

    def come_to_rest(self):
        """All faults end: messages arrive, the gateway answers in its time, operators retry, users
        pay. What a gateway that never answers leaves open is settled."""
        for _ in range(300):
            saga, unknown = self.order.saga, self.held.get("charge") == "unknown"
            if self.net:
                self.deliver(0)
            elif saga.state is SagaState.PENDING:
                self.feed(Start())
            elif saga.stuck is not None and unknown and self.slow == NEVER:
                self.seen["never answered"] += 1
                self.feed(Settle("ops", settleable(saga)[0], "asked the gateway's people"))
            elif saga.stuck is not None:
                self.feed(Retry("ops"))
            elif saga.timer_at is not None:
                self.tick(max((saga.timer_at - self.order.now).total_seconds(), 0) + 1)
            elif unknown and self.slow != NEVER:
                self.gateway_answers()
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
