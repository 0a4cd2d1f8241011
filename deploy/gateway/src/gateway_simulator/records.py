"""What stands in the book, and how it is shown."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from typing import Self

AMOUNT_AT_MOST = 2**53 - 1
"""Beyond, JSON numbers aren't exact for everyone."""


class _Body(BaseModel):
    # An unknown member is refused: silently ignored, a misspelled one would cost money.
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False
    )

    amount: StrictInt = Field(gt=0, le=AMOUNT_AT_MOST)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    callback_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s/]\S*$", max_length=2_000
    )


class ChargeBody(_Body):
    """The body of `POST /v1/charges`. Amounts are in minor units."""

    reference: str = Field(min_length=1, max_length=255)
    customer: str = Field(min_length=1, max_length=255)


class RefundBody(_Body):
    """The body of `POST /v1/refunds`."""

    charge: str = Field(min_length=1, max_length=255)


@dataclass(frozen=True, slots=True)
class Fate:
    """What befalls a charge or a refund, as the faults have it; by default, nothing."""

    status: str = "done"
    """`done`, `declined` or `processing`."""
    amount: int | None = None
    currency: str | None = None
    """Where these are set: booked instead of what was asked for."""
    decline_code: str | None = None
    settle_s: float = 0.0
    """How long it is processing."""
    mishap: str | None = None
    """What befalls its webhooks."""
    copies: int = 1
    """How often each of them is delivered."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge. Fields in the order of the table's columns."""

    id: str
    key: str
    status: str
    amount: int
    currency: str
    reference: str
    customer: str
    refunded: int
    decline_code: str | None
    created_ms: int

    @classmethod
    def of(cls, tag: str, row: tuple[Any, ...]) -> Self:
        """From the first ten columns of its row."""
        return cls(charge_id(tag, row[0]), *row[1:10])

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "idempotencyKey": self.key,
            "status": self.status,
            "amount": self.amount,
            "currency": self.currency,
            "reference": self.reference,
            "customer": self.customer,
            "refunded": self.refunded,
            "declineCode": self.decline_code,
            "createdAt": moment(self.created_ms),
        }


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund of a part of a charge, or of all of it."""

    id: str
    key: str
    charge: str
    status: str
    amount: int
    currency: str
    created_ms: int

    @classmethod
    def of(cls, tag: str, row: tuple[Any, ...]) -> Self:
        """From the first seven columns of its row."""
        number, key, charge, *others = row[:7]
        return cls(refund_id(tag, number), key, charge_id(tag, charge), *others)

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "idempotencyKey": self.key,
            "charge": self.charge,
            "status": self.status,
            "amount": self.amount,
            "currency": self.currency,
            "createdAt": moment(self.created_ms),
        }


def charge_id(tag: str, number: int) -> str:
    return f"ch_{tag}{number:012d}"


def refund_id(tag: str, number: int) -> str:
    return f"re_{tag}{number:012d}"


def number_of(tag: str, id_: str) -> int | None:
    """The number of a charge, None where this book can't have written the id."""
    digits = id_.removeprefix(f"ch_{tag}")
    if digits == id_ or len(digits) != 12 or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def moment(milliseconds: int) -> str:
    """RFC 3339, UTC, to the millisecond."""
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
