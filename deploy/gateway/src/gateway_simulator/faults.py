"""Which fault befalls a request: pure, and the same again from the same seed.

A draw depends on the seed, the rule's place, the key and how many requests have come under that
key, never on the clock or on other keys. So a run can be repeated, however its requests interleave.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from gateway_simulator.records import Fate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway_simulator.records import ChargeBody, RefundBody

Operation = Literal["charge", "refund", "inquiry"]
Family = Literal["down", "request", "webhook"]
"""One fault of each family may befall a request: `down` ends it, one changes how it is answered or
booked, and one is for the webhooks that come of it."""
Name = Literal[
    "latency", "hang_after_charge", "hang_before_charge", "error_after_charge",
    "error_before_charge", "throttle", "decline", "wrong_amount", "wrong_currency", "late",
    "processing", "duplicate_webhooks", "shuffle_webhooks", "drop_webhooks", "bad_signature",
    "down",
]  # fmt: skip

_EVERYTHING: Final[frozenset[Operation]] = frozenset(("charge", "refund", "inquiry"))
_POSTS: Final[frozenset[Operation]] = frozenset(("charge", "refund"))
_CHARGES: Final[frozenset[Operation]] = frozenset(("charge",))
_ON: Final[Mapping[Name, frozenset[Operation]]] = {
    "latency": _EVERYTHING,
    "hang_after_charge": _EVERYTHING,
    "hang_before_charge": _EVERYTHING,
    "error_after_charge": _EVERYTHING,
    "error_before_charge": _EVERYTHING,
    "throttle": _EVERYTHING,
    "decline": _CHARGES,
    "wrong_amount": _POSTS,
    "wrong_currency": _POSTS,
    "late": _POSTS,
    "processing": _POSTS,
    "duplicate_webhooks": _POSTS,
    "shuffle_webhooks": _POSTS,
    "drop_webhooks": _POSTS,
    "bad_signature": _POSTS,
    "down": _EVERYTHING,
}
"""Where each fault makes sense."""
_HOW: Final[Mapping[Name, tuple[str, ...]]] = {
    "late": ("hang", "202", "504"),
    "down": ("503", "close"),
}
"""The ways of those that have several, the usual one first."""
_NEED_SECONDS: Final[frozenset[Name]] = frozenset(("latency", "late", "processing"))
_WEBHOOKS: Final[frozenset[Name]] = frozenset(
    ("duplicate_webhooks", "shuffle_webhooks", "drop_webhooks", "bad_signature")
)
_OTHER_CURRENCY, _OTHERWISE = "USD", "EUR"
_DRAW_BYTES = 8


class Rule(BaseModel):
    """One fault, and which requests it may befall."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)

    fault: Name
    on: frozenset[Operation] = frozenset()
    """Without it: charges and refunds, as far as the fault makes sense there."""
    share: float = Field(default=1.0, ge=0, le=1)
    only_keys: frozenset[str] | None = None
    key_prefix: str = ""
    times: Annotated[int, Field(ge=1)] | None = None
    """How often it strikes at most; of `duplicate_webhooks`, how often an event comes again."""
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    how: str = ""
    by: int = Field(default=1, ge=1)
    """Of `wrong_amount`, in minor units: a charge is higher by this, a refund lower."""
    decline_code: str = Field(default="insufficient_funds", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _with_usual_places(cls, value: object) -> object:
        if not isinstance(value, dict) or value.get("fault") not in get_args(Name):
            return value
        fault: Name = value["fault"]
        usual = _EVERYTHING if fault == "down" else _ON[fault] & _POSTS
        return {"on": usual, "how": _HOW.get(fault, ("",))[0]} | value

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if senseless := sorted(self.on - _ON[self.fault]):
            raise ValueError(f"{self.fault} makes no sense on {', '.join(senseless)}")
        if self.how not in _HOW.get(self.fault, ("",)):
            ways = " or ".join(_HOW.get(self.fault, ())) or "none, it has one way only"
            raise ValueError(f"'how' of {self.fault} is {ways}")
        if self.fault in _NEED_SECONDS and self.seconds is None:
            raise ValueError(f"{self.fault} needs 'seconds'")
        return self

    @property
    def family(self) -> Family:
        """Which of the faults that may come together this is one of."""
        if self.fault == "down":
            return "down"
        return "webhook" if self.fault in _WEBHOOKS else "request"

    @property
    def strikes_at_most(self) -> int | None:
        """None: as often as it is drawn."""
        return None if self.fault == "duplicate_webhooks" else self.times

    def is_for(self, operation: Operation, key: str) -> bool:
        """Whether it may befall a request under this key."""
        return (
            operation in self.on
            and key.startswith(self.key_prefix)
            and (self.only_keys is None or key in self.only_keys)
        )


class Faults(BaseModel):
    """The document of `PUT /admin/faults`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    rules: tuple[Rule, ...] = ()

    def choose(
        self, family: Family, operation: Operation, key: str, attempt: int, struck: Sequence[int]
    ) -> int | None:
        """The place of the first rule that strikes, None where none does.

        `attempt` counts the requests of this operation under the key, from 1; `struck` is how often
        each rule has struck before.
        """
        for place, rule in enumerate(self.rules):
            if rule.family != family or not rule.is_for(operation, key):
                continue
            if rule.strikes_at_most is not None and struck[place] >= rule.strikes_at_most:
                continue
            if self._drawn(place, operation, key, attempt) < rule.share:
                return place
        return None

    def _drawn(self, place: int, operation: Operation, key: str, attempt: int) -> float:
        """From 0 up to 1, 1 excluded."""
        text = f"{self.seed}/{place}/{operation}/{attempt}/{key}"
        digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=_DRAW_BYTES).digest()
        # 53 bits are what a float holds: with all 64 the quotient could be rounded up to 1
        return (int.from_bytes(digest) >> 11) / 2**53


def fate(rule: Rule | None, webhook_rule: Rule | None, body: ChargeBody | RefundBody) -> Fate:
    """What becomes of a request in the book, and of the webhooks that tell of it."""
    changes: dict[str, object] = {}
    match rule.fault if rule else None:
        case "decline":
            assert rule is not None
            changes = {"status": "declined", "decline_code": rule.decline_code}
        case "processing":
            assert rule is not None
            changes = {"status": "processing", "settle_s": rule.seconds}
        case "wrong_amount":
            assert rule is not None
            # never more than the charge: a refund is wrong by being too small
            by = rule.by if hasattr(body, "reference") else -rule.by
            changes = {"amount": max(1, body.amount + by)}
        case "wrong_currency":
            other = _OTHER_CURRENCY if body.currency != _OTHER_CURRENCY else _OTHERWISE
            changes = {"currency": other}
    if webhook_rule is not None:
        changes["mishap"] = webhook_rule.fault
        if webhook_rule.fault == "duplicate_webhooks":
            changes["copies"] = 1 + (webhook_rule.times or 1)
    return Fate(**changes)  # type: ignore[arg-type] # each name has the type of its field
