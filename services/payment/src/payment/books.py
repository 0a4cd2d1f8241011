"""The rows of a chunk in memory: payments, calls to the gateway, wallets and the ledger; what was
changed of them, and the moves of money that several decisions make. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from payment.calls import Call, Lease, key_of
from payment.ledger import House, Ledger, Leg, Purse, changed_rows, new_rows
from payment.records import Charge, Payment, Wallet
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import CallKind, CallState, PaymentState

if TYPE_CHECKING:
    from collections.abc import Iterable


class Books:
    """What a chunk has loaded; decisions change it one by one, and it knows what is to be saved."""

    def __init__(
        self,
        currency: str,
        lease: Lease | None = None,
        *,
        has_gateway: bool = True,
        payments: Iterable[Payment] = (),
        calls: Iterable[Call] = (),
        wallets: Iterable[Wallet] = (),
    ) -> None:
        """`currency` is the deployment's; `lease` may be None where nothing in the chunk concerns
        the gateway."""
        self.currency = currency
        self.has_gateway = has_gateway
        self.lease = lease
        self.ledger = Ledger(wallets, currency)
        self.late_captures = 0
        self._payments = {payment.order_id: payment for payment in payments}
        self._calls = {call.key: call for call in calls}
        self._loaded_payments = dict(self._payments)
        self._loaded_calls = dict(self._calls)
        self._handed: set[str] = set()

    def payment(self, order_id: str) -> Payment | None:
        """The payment of an order, as it is by now."""
        return self._payments.get(order_id)

    def call(self, key: str) -> Call | None:
        """A call, as it is by now."""
        return self._calls.get(key)

    def call_of(self, kind: CallKind, payment: Payment) -> Call:
        """A call that is there, since the payment's state says so."""
        return self._calls[key_of(kind, payment.order_id)]

    def put(self, row: Payment | Call) -> None:
        """The row is so from now on."""
        if isinstance(row, Payment):
            self._payments[row.order_id] = row
        else:
            self._calls[row.key] = row

    def hand_over(self, call: Call) -> None:
        """To the courier of this instance, while it has room; else whoever has room finds it."""
        lease = self.lease
        assert lease is not None  # the chunk concerns the gateway, since something is asked of it
        if len(self._handed) < lease.free:
            self._handed.add(call.key)
            attempt = call.attempt + 1
            call = replace(call, owner=lease.owner, attempt=attempt, next_at=lease.until)
        else:
            call = replace(call, owner=None, next_at=lease.now)
        self.put(call)

    def ask_now(self, call: Call) -> None:
        """Somebody waits for what comes of it: no pause any more, where nobody is at it."""
        if self.lease is not None and call.owner is None and call.next_at is not None:
            self.put(replace(call, next_at=min(call.next_at, self.lease.now)))

    def is_unsent(self, call: Call) -> bool:
        """Whether nobody has sent it, and nobody will where it is made void in this chunk: nobody
        has its lease, or a courier that is given it once this is committed."""
        has_no_courier = call.owner is None or call.key in self._handed
        return call.state is CallState.INTENDED and not call.sends and has_no_courier

    def take(self, order_id: str, charge: Charge) -> Payment:
        """All of the amount, from points and the wallet."""
        self.ledger.post(
            f"payment:{order_id}",
            charge.user_id,
            Leg(Purse.POINTS, -charge.points),
            Leg(Purse.WALLET, -charge.rest),
            Leg(House.REVENUE, charge.amount),
        )
        return Payment(order_id, PaymentState.CAPTURED, charge, captured=charge.amount)

    def hold(self, payment: Payment, charge: Charge) -> None:
        """Set the points aside while the gateway is asked for the rest."""
        self._move_held("hold", payment, charge.user_id, charge.points)

    def release(self, payment: Payment) -> None:
        """Give held points back: the gateway takes nothing."""
        if payment.charge is not None:
            self._move_held("release", payment, payment.charge.user_id, -payment.charge.points)

    def collect(self, payment: Payment, charge: Charge, points: int) -> Payment:
        """The gateway has captured its part; `points` were held for it."""
        taken = points + charge.by_gateway
        self.ledger.post(
            f"payment:{payment.order_id}",
            charge.user_id,
            Leg(House.HELD, -points),
            Leg(House.GATEWAY, -charge.by_gateway),
            Leg(House.REVENUE, taken),
        )
        return replace(payment, captured=taken)

    def give_back(self, payment: Payment, charge: Charge) -> Payment:
        """The same parts that were taken."""
        self.ledger.post(
            f"refund:{payment.order_id}",
            charge.user_id,
            Leg(Purse.POINTS, payment.captured - charge.rest),
            Leg(Purse.WALLET, charge.rest if charge.method is PaymentMethod.WALLET else 0),
            Leg(House.GATEWAY, charge.by_gateway),
            Leg(House.REVENUE, -payment.captured),
        )
        return replace(payment, state=PaymentState.REFUNDED, refunded=payment.captured)

    def _move_held(self, name: str, payment: Payment, user_id: str, points: int) -> None:
        self.ledger.post(
            f"{name}:{payment.order_id}",
            user_id,
            Leg(Purse.POINTS, -points),
            Leg(House.HELD, points),
        )

    @property
    def new_payments(self) -> list[Payment]:
        """Orders decided for the first time, in key order."""
        return new_rows(self._payments, self._loaded_payments)

    @property
    def changed_payments(self) -> list[Payment]:
        """Orders that were loaded and changed, in key order."""
        return changed_rows(self._payments, self._loaded_payments)

    @property
    def new_calls(self) -> list[Call]:
        """Calls that are to be made, in key order."""
        return new_rows(self._calls, self._loaded_calls)

    @property
    def changed_calls(self) -> list[Call]:
        """Calls that were loaded and changed, in key order."""
        return changed_rows(self._calls, self._loaded_calls)

    @property
    def quarantined(self) -> list[Call]:
        """Calls that a person has to look at from now on, in key order."""
        return [
            call
            for call in self.changed_calls
            if call.state is CallState.QUARANTINED
            and self._loaded_calls[call.key].state is not CallState.QUARANTINED
        ]

    @property
    def handed_over(self) -> list[Call]:
        """Calls that this instance makes as soon as this is committed."""
        return [self._calls[key] for key in sorted(self._handed) if self._calls[key].owner]
