"""The orchestrator's settings, beside those that every service has: the saga's times and limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from order_orchestrator.domain import Limits
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the orchestrator is told."""

    step_resend_s: float = Field(default=5.0, gt=0, le=3_600)
    """A step that is unanswered for so long gets its command again."""
    resend_at_most_s: float = Field(default=60.0, gt=0, le=86_400)
    order_deadline_s: float = Field(default=60.0, gt=0, le=86_400)
    settlement_window_s: float = Field(default=120.0, ge=0, le=86_400)
    """A charge at the gateway is given up only so long after the order's deadline."""
    pay_deadline_s: float = Field(default=900.0, gt=0, le=86_400)
    reading_grace_s: float = Field(default=1.0, ge=0, le=60)
    undo_sends: int = Field(default=10, ge=2, le=1_000)
    """Undos, and what follows the pivot, are sent as often before an operator is asked."""
    sagas_waiting: int = Field(default=2_000, ge=1, le=1_000_000)
    """Further orders are stored as PENDING."""
    admission_interval_s: float = Field(default=0.2, ge=0.01, le=10)
    timer_interval_s: float = Field(default=0.25, ge=0.01, le=10)
    horizon_interval_s: float = Field(default=1.0, ge=0.05, le=60)
    parked_keep_s: float = Field(default=86_400.0, ge=1)
    """`PayOrder` and `CancelOrder` wait so long for their `PlaceOrder`."""

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        limits = self.limits()  # checks its own relations
        # The steps before the payment, its `PayOrder` awaited, a charge with its own deadline.
        charged = limits.order_deadline + limits.settlement_window
        whole = limits.order_deadline + limits.pay_deadline + charged
        if self.longest_saga_s < whole.total_seconds():
            raise ValueError(
                "LONGEST_SAGA_S must be at least ORDER_DEADLINE_S twice, PAY_DEADLINE_S and"
                " SETTLEMENT_WINDOW_S together"
            )
        if self.step_resend_s < self.session_timeout_s / 2:
            raise ValueError(
                "STEP_RESEND_S must be at least half of SESSION_TIMEOUT_S: a participant that is"
                " killed comes back within that, and would find every command twice"
            )
        return self

    def limits(self) -> Limits:
        """The engine's limits."""
        return Limits(
            resend_after=timedelta(seconds=self.step_resend_s),
            resend_at_most=timedelta(seconds=self.resend_at_most_s),
            order_deadline=timedelta(seconds=self.order_deadline_s),
            settlement_window=timedelta(seconds=self.settlement_window_s),
            pay_deadline=timedelta(seconds=self.pay_deadline_s),
            reading_grace=timedelta(seconds=self.reading_grace_s),
            undo_sends=self.undo_sends,
        )
