"""What the users of a rush ask, and what is read out of the answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from bench.campaigns.crowd import RULE, Rush
from bench.campaigns.fairness import Arrival
from bench.campaigns.plan import KINDS, Keying
from bench.campaigns.rush import DRAWN, ENTERED, ISSUED, REFUSED, Event, Exchange, found
from bench.errors import BenchError
from bench.record import Usage
from shared.contracts.coupon import CampaignKind, EnterLottery, IssueCoupon, PutCampaign
from shared.contracts.lottery import winners

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_COME, CONDITIONAL, LOTTERY = (
    CampaignKind.FIRST_COME,
    CampaignKind.CONDITIONAL,
    CampaignKind.LOTTERY,
)


def usage(coupon_s: float) -> Usage:
    return Usage(window_s=1.0, cpu_s={"coupon-0": coupon_s}, others_s=0.0, stolen_s=0.0)


def rush_of(kind: CampaignKind, users: int = 4, coupons: int = 2) -> Rush:
    return Rush(kind, Keying.NONE, "0", users, coupons)


def event(kind: str, number: int, at_ms: int, offset: int = 0, **body: Any) -> Event:
    """Even numbers lie on one partition, odd ones on another."""
    content = {"commandId": f"c{number}", "userId": f"user_{number}", **body}
    return Event(kind, content, Arrival(at_ms, number % 2, offset))


def asked() -> list[Event]:
    """Four users, one a millisecond, in turn on two partitions."""
    return [event("", number, 1_000 + number, number) for number in range(4)]


def answered() -> list[Event]:
    """The second and the last one get a coupon, the last one first."""
    return [
        event(ISSUED, 3, 1_010, sequence=1),
        event(ISSUED, 1, 1_014, sequence=2),
        event(REFUSED, 0, 1_019, reason="sold_out"),
        event(REFUSED, 2, 1_099, reason="sold_out"),
    ]


def exchanged(asked: Sequence[Event], answers: Sequence[Event], coupon_s: float = 0.1) -> Exchange:
    return Exchange(asked, answers, usage(coupon_s), wal_bytes=500)


def test_figures_of_a_rush_are_those_of_its_messages() -> None:
    done = exchanged(asked(), answered())
    one = found(rush_of(FIRST_COME), done, done)
    assert (one.issued, one.issued_in_ms) == (2, 15), "to the end of the millisecond of the last"
    assert one.done.per_second == pytest.approx(4 / 0.1)
    assert one.done.latency_ms == {8: 1, 14: 1, 20: 1, 98: 1}, "rounded up"
    assert (one.overtaken, one.inversions, one.early) == (2, 1, 1)
    assert (one.asked_in_ms, one.moments) == (4, 4)
    assert (one.done.messages, one.done.wal_bytes) == (4, 500)


def drawn(wanted: Rush, seed: str, lucky: Sequence[str]) -> Exchange:
    coupons = [
        event(ISSUED, int(user.removeprefix("user_")), 5_040 + rank, sequence=rank)
        for rank, user in enumerate(lucky, 1)
    ]
    draw = event(DRAWN, 9, 5_030, seed=seed)
    return exchanged([event("", 9, 5_000)], [draw, *coupons], coupon_s=0.3)


def test_coupons_of_a_lottery_count_from_its_draw() -> None:
    wanted, users = rush_of(LOTTERY), [f"user_{number}" for number in range(4)]
    entered = exchanged(asked(), [event(ENTERED, number, 1_009) for number in range(4)])
    lucky = winners("seed", users, 2)
    one = found(wanted, entered, drawn(wanted, "seed", lucky))
    assert (one.issued, one.issued_in_ms) == (2, 43)
    assert one.done.per_second == pytest.approx(4 / 0.01), "entries, from the first request"
    assert one.done.usage.cpu_s == {"coupon-0": pytest.approx(0.4)}, "with the draw"
    assert (one.done.usage.window_s, one.done.wal_bytes) == (2.0, 1_000)
    with pytest.raises(BenchError, match="not those of its seed"):
        found(wanted, entered, drawn(wanted, "seed", lucky[::-1]))


@pytest.mark.parametrize(
    ("place", "other", "said"),
    [
        (3, event(REFUSED, 0, 1_099, reason="sold_out"), "has one answer"),
        (3, event(REFUSED, 2, 1_099, reason="not_open"), "refused users for not_open"),
        (1, event(ISSUED, 1, 1_014, sequence=3), "numbered without a gap"),
    ],
)
def test_figures_of_other_work_are_none(place: int, other: Event, said: str) -> None:
    answers = answered()
    answers[place] = other
    done = exchanged(asked(), answers)
    with pytest.raises(BenchError, match=said):
        found(rush_of(FIRST_COME), done, done)


def test_every_user_asks_once_as_the_kind_is_asked() -> None:
    for kind in KINDS:
        wanted = rush_of(kind, users=30)
        model = EnterLottery if kind is LOTTERY else IssueCoupon
        requests = [model.model_validate_json(one.value) for one in wanted.requests()]
        assert len({one.user_id for one in requests}) == 30
        assert len({one.command_id for one in requests}) == 30
        assert {one.key for one in wanted.requests()} == {wanted.campaign.encode()}
        asks_rule = kind is CONDITIONAL
        assert all((one.facts is not None) == asks_rule for one in requests)
        put = PutCampaign.model_validate_json(wanted.put().value)
        assert (put.kind, put.limit, put.rule) == (kind, 2, RULE if asks_rule else None)


def test_no_two_rushes_share_a_campaign() -> None:
    names = Counter(
        Rush(kind, keying, turn, 4, 2).campaign
        for kind in KINDS
        for keying in Keying
        for turn in ("warm", "0", "1")
    )
    assert max(names.values()) == 1
