"""Payment's records: wallets, payments, and what makes two charges the same. Pure.

ChargePayment ─▶ CAPTURED ──────────────────── RefundPayment ─▶ REFUNDED      wallet and points
      ├────────▶ REFUSED                            │              ▲
      └────────▶ PENDING ─▶ CAPTURED or REFUSED     └▶ REFUNDING ──┘          by the gateway
                    └─ RefundPayment ─▶ CANCELLING ─▶ REFUNDING or TOMBSTONE
RefundPayment of nothing ─▶ TOMBSTONE ─ a late capture ─▶ REFUNDING
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from shared.contracts.base import digest
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import PaymentState

if TYPE_CHECKING:
    from shared.contracts.payment import ChargePayment, PaymentRefusal

FINGERPRINT_VERSION: Final = 1
FINGERPRINTED: Final = {1: attrgetter("user_id", "amount", "currency", "method", "points")}
"""What makes two charges of one order the same, by version. Old versions stay, for stored rows."""


UNDECIDED: Final = frozenset({PaymentState.PENDING, PaymentState.CANCELLING})
"""Nobody knows whether money moved. Nothing is said of these."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a user has, in minor units. One point is one minor unit."""

    user_id: str
    currency: str
    balance: int
    points: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """What a charge asked for, with the fingerprint that tells whether another asks the same."""

    user_id: str
    amount: int
    currency: str
    method: PaymentMethod
    points: int
    """The part of the amount that is taken in points, before all else."""
    fingerprint_version: int
    fingerprint: bytes

    @property
    def rest(self) -> int:
        """What is taken from the wallet or by the gateway."""
        return self.amount - self.points

    @property
    def by_gateway(self) -> int:
        """What the gateway is asked for."""
        return self.rest if self.method is PaymentMethod.GATEWAY else 0


@dataclass(frozen=True, slots=True)
class Payment:
    """What was decided for an order, kept for good so that it can be said again."""

    order_id: str
    state: PaymentState
    charge: Charge | None = None
    """None for a tombstone alone."""
    refusal: PaymentRefusal | None = None
    captured: int = 0
    """How much was taken: all that was asked for, or nothing; of a late capture, the gateway's
    part alone."""
    refunded: int = 0
    """How much of that was given back: all or nothing."""
    is_late: bool = False
    """It was captured after its order was told that no money had moved."""

    def is_of(self, command: ChargePayment) -> bool:
        """Tell whether the verdict was on what `command` asks; a tombstone's is on any charge."""
        asked = self.charge
        return not asked or asked.fingerprint == fingerprint(command, asked.fingerprint_version)


def charge_of(command: ChargePayment) -> Charge:
    """What `command` asks for."""
    return Charge(
        command.user_id,
        command.amount,
        command.currency,
        command.method,
        command.points,
        FINGERPRINT_VERSION,
        fingerprint(command, FINGERPRINT_VERSION),
    )


def fingerprint(command: ChargePayment, version: int) -> bytes:
    """16 bytes, equal where two charges ask for the same by that version's fields; raises
    `KeyError` for a version that this code doesn't know."""
    return digest("|".join(map(str, FINGERPRINTED[version](command))).encode())
