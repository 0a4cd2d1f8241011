"""Whatever comes in whatever order, duplicates included: what must hold of coupons holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from coupon.campaigns import CampaignFold, Loaded
from coupon.domain import Fold
from coupon.records import LIVE_STATES, Campaign, Coupon, CouponState, Hold
from shared.contracts.base import Message
from shared.contracts.coupon import (
    CampaignKind,
    CouponIssued,
    Discount,
    DiscountType,
    HoldCoupon,
    IssueCoupon,
    PutCampaign,
    RestoreCoupon,
    UseCoupon,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SagaCommand: TypeAlias = HoldCoupon | UseCoupon | RestoreCoupon
CampaignCommand: TypeAlias = PutCampaign | IssueCoupon

START = datetime(2026, 3, 1, tzinfo=UTC)
COUPONS = ("A", "B")
USERS = ("u1", "u2", "u3")
# Several orders race for each coupon; each order has one.
ORDERS = {
    f"o{number}": (COUPONS[number % 2], USERS[number % 3]) for number in range(12)
}  # fmt: skip


@dataclass
class World:
    """What Postgres would hold between chunks."""

    campaigns: dict[str, Campaign] = field(default_factory=dict)
    coupons: dict[tuple[str, str], Coupon] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    now: datetime = START

    def run_saga(self, commands: Sequence[SagaCommand]) -> list[Message]:
        fold = Fold(
            self.campaigns.values(), self.coupons.values(), self.holds.values(),
            currency="KRW", now=self.now,
        )  # fmt: skip
        replies: list[Message] = [fold.apply(command) for command in commands]
        for hold in fold.new_holds:
            assert hold.order_id not in self.holds
        for hold in (*fold.new_holds, *fold.changed_holds):
            self.holds[hold.order_id] = hold
        for coupon in fold.changed_coupons:
            self.coupons[coupon.key] = coupon
        return replies

    def run_campaigns(self, commands: Sequence[CampaignCommand]) -> list[object]:
        loaded = Loaded(self.campaigns.values(), self.coupons.keys(), (), {}, self.now)
        fold = CampaignFold(loaded, currency="KRW", new_seed=lambda: "00" * 32)
        events: list[object] = [fold.apply(command) for command in commands]
        for campaign in (*fold.new_campaigns, *fold.changed_campaigns):
            self.campaigns[campaign.coupon_id] = campaign
        for coupon in fold.new_coupons:
            assert coupon.key not in self.coupons, "one coupon a user"
            self.coupons[coupon.key] = coupon
        return events

    def check(self) -> None:
        """Invariant 3."""
        for campaign in self.campaigns.values():
            given_out = [
                coupon.sequence
                for coupon in self.coupons.values()
                if coupon.coupon_id == campaign.coupon_id
            ]
            assert sorted(given_out) == list(range(1, campaign.issued + 1))
            assert campaign.issued <= campaign.limit
        assert {key[0] for key in self.coupons} <= set(self.campaigns)
        of_coupons = {
            coupon.order_id: (coupon.key, coupon.state.value)
            for coupon in self.coupons.values()
            if coupon.state is not CouponState.ISSUED
        }
        of_holds = {
            hold.order_id: (hold.key, hold.state.value)
            for hold in self.holds.values()
            if hold.state in LIVE_STATES
        }
        assert of_coupons == of_holds
        for hold in self.holds.values():
            assert hold.discount is None or 0 <= hold.discount <= (hold.total or 0)


def saga_command(order_id: str, step: str) -> SagaCommand:
    """The command of a step is always the same, as the orchestrator derives it from its order."""
    coupon_id, user_id = ORDERS[order_id]
    if step == "use":
        return UseCoupon(
            command_id=f"{order_id}:use:do", order_id=order_id, user_id=user_id,
            coupon_id=coupon_id,
        )  # fmt: skip
    if step == "restore":
        return RestoreCoupon(
            command_id=f"{order_id}:hold:undo", order_id=order_id, user_id=user_id,
            coupon_id=coupon_id,
        )  # fmt: skip
    return HoldCoupon(
        command_id=f"{order_id}:hold:do", order_id=order_id, user_id=user_id,
        coupon_id=coupon_id, total=int(order_id[1:]) * 777,
        currency="USD" if order_id == "o11" else "KRW",
    )  # fmt: skip


discounts = st.builds(
    Discount, type=st.just(DiscountType.FIXED), value=st.integers(1, 10_000)
) | st.builds(
    Discount,
    type=st.just(DiscountType.PERCENT),
    value=st.integers(1, 100),
    cap=st.none() | st.integers(1, 2_000),
)


def put(
    coupon_id: str, kind: CampaignKind, limit: int, discount: Discount, hours: int | None
) -> PutCampaign:
    return PutCampaign(
        command_id="put", coupon_id=coupon_id, kind=kind, limit=limit, discount=discount,
        ends_at=None if hours is None else START + timedelta(hours=hours),
    )  # fmt: skip


def issue(coupon_id: str, user_id: str) -> IssueCoupon:
    return IssueCoupon(command_id="issue", coupon_id=coupon_id, user_id=user_id)


puts = st.builds(
    put,
    st.sampled_from(COUPONS),
    st.sampled_from((CampaignKind.FIRST_COME, CampaignKind.FIRST_COME, CampaignKind.QUEUED)),
    st.integers(1, 3),
    discounts,
    st.none() | st.integers(0, 20),
)
issues = st.builds(issue, st.sampled_from(COUPONS), st.sampled_from(USERS))
saga_commands = st.builds(
    saga_command, st.sampled_from(list(ORDERS)), st.sampled_from(("hold", "use", "restore"))
)
saga_chunks = st.lists(saga_commands, min_size=1, max_size=8)
chunks = st.lists(saga_chunks | st.lists(puts | issues, min_size=1, max_size=8), max_size=25)


def run(world: World, chunk: Sequence[object], first: dict[str, Message]) -> None:
    """Run one chunk an hour later, and compare each reply with the first of its command."""
    world.now += timedelta(hours=1)
    of_saga = [
        command
        for command in chunk
        if isinstance(command, HoldCoupon | UseCoupon | RestoreCoupon)
    ]  # fmt: skip
    world.run_campaigns(
        [command for command in chunk if isinstance(command, PutCampaign | IssueCoupon)]
    )
    for command, reply in zip(of_saga, world.run_saga(of_saga), strict=True):
        assert first.setdefault(command.command_id, reply) == reply
    world.check()


@settings(max_examples=300, deadline=None)
@given(chunks)
def test_f1_f2_invariants_hold_and_every_duplicate_gets_the_first_reply(
    stream: list[list[object]],
) -> None:
    world, first = World(), dict[str, Message]()
    for chunk in stream:
        run(world, chunk, first)


@settings(max_examples=150, deadline=None)
@given(chunks, st.randoms(use_true_random=False))
def test_f1_a_whole_topic_again_changes_nothing(stream: list[list[object]], random: object) -> None:
    world, first = World(), dict[str, Message]()
    for chunk in stream:
        run(world, chunk, first)
    again = [
        command
        for chunk in stream
        for command in chunk
        if isinstance(command, HoldCoupon | UseCoupon | RestoreCoupon)
    ]  # fmt: skip
    random.shuffle(again)  # type: ignore[attr-defined]
    coupons, holds = dict(world.coupons), dict(world.holds)

    for command, reply in zip(again, world.run_saga(again), strict=True):
        assert reply == first[command.command_id]

    assert world.coupons == coupons
    assert world.holds == holds


@settings(max_examples=150, deadline=None)
@given(st.lists(puts | issues, max_size=10), st.lists(saga_commands, max_size=30))
def test_how_commands_are_cut_into_chunks_makes_no_difference(
    setup: list[CampaignCommand], stream: list[SagaCommand]
) -> None:
    whole, single = World(), World()
    events = whole.run_campaigns(setup), [single.run_campaigns([each])[0] for each in setup]
    replies = whole.run_saga(stream), [single.run_saga([each])[0] for each in stream]

    assert events[0] == events[1]
    assert replies[0] == replies[1]
    for world in (whole, single):  # a fence rises once a chunk
        world.campaigns = {key: row.at_fence(0) for key, row in world.campaigns.items()}
    assert whole == single


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 60), max_size=120),
    st.integers(1, 50),
)
def test_f63_exactly_as_many_coupons_as_there_are(
    limit: int, users: list[int], chunk_size: int
) -> None:
    world = World()
    discount = Discount(type=DiscountType.FIXED, value=1)
    world.run_campaigns([put("A", CampaignKind.FIRST_COME, limit, discount, None)])
    demand = [
        IssueCoupon(command_id=f"i{number}", coupon_id="A", user_id=f"u{user}")
        for number, user in enumerate(users)
    ]
    events: list[object] = []
    for start in range(0, len(demand), chunk_size):
        events += world.run_campaigns(demand[start : start + chunk_size])
        world.check()

    issued = [event for event in events if isinstance(event, CouponIssued)]
    first_come = list(dict.fromkeys(f"u{user}" for user in users))[:limit]
    assert [event.user_id for event in issued] == first_come
    assert [event.sequence for event in issued] == list(range(1, len(first_come) + 1))
