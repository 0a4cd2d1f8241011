"""A draw is verified from its events and entries; each manipulation is found by its check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderctl.lottery_checks import History, Verdict, Verification, verify, why_not_verifiable
from shared.contracts import lottery
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    CouponRefusal,
    CouponRequestRefused,
    LotteryDrawn,
    LotteryEntered,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.contracts.base import Message

SEED, OTHER_SEED = "5eed" * 16, "0dd5" * 16
NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
USERS = [f"user_{number}" for number in range(12)]


def put(seed: str | None = SEED, *, number: int = 1, limit: int = 5, **fields: Any) -> CampaignPut:
    return CampaignPut(
        command_id=f"put-{number}", coupon_id="L", limit=limit,
        kind=fields.get("kind", CampaignKind.LOTTERY),
        seed_hash=None if seed is None else lottery.seed_hash(seed),
    )  # fmt: skip


def entered(user: str, seed: str | None = SEED) -> LotteryEntered:
    return LotteryEntered(
        command_id=f"e-{user}", coupon_id="L", user_id=user,
        seed_hash=None if seed is None else lottery.seed_hash(seed),
    )  # fmt: skip


def issued(user: str, sequence: int) -> CouponIssued:
    return CouponIssued(
        command_id=f"e-{user}", coupon_id="L", user_id=user, sequence=sequence, issued_at=NOW
    )


def drawn(users: Sequence[str], *, seed: str = SEED, limit: int = 5) -> LotteryDrawn:
    return LotteryDrawn(
        command_id="draw", coupon_id="L", seed=seed, entries_hash=lottery.entries_hash(users),
        entry_count=len(users), winner_count=min(limit, len(users)),
    )  # fmt: skip


@dataclass
class Lottery:
    """What is published of a draw; honest at first."""

    puts: list[CampaignPut] = field(default_factory=lambda: [put()])
    entered: list[LotteryEntered] = field(default_factory=lambda: [entered(u) for u in USERS])
    draws: list[LotteryDrawn] = field(default_factory=lambda: [drawn(USERS)])
    issued: list[CouponIssued] = field(
        default_factory=lambda: [
            issued(user, number) for number, user in enumerate(lottery.winners(SEED, USERS, 5), 1)
        ]
    )
    entries: list[str] = field(default_factory=lambda: list(USERS))
    is_cut: bool = False

    def events(self) -> list[Message]:
        return [*self.puts, *self.entered, *self.draws, *self.issued]

    def history(self) -> History:
        return history(self.events(), is_cut=self.is_cut)

    def verified(self) -> Verification:
        found = self.history()
        assert why_not_verifiable(found) is None
        return verify(found, self.entries)


def history(events: Sequence[Message], *, is_cut: bool = False) -> History:
    found = History("L", is_cut)
    for event in events:
        found.add(event)
    return found


def failed(found: Verification) -> set[str]:
    return {check.name for check in found.checks if check.verdict is Verdict.FAILED}


def told(found: Verification, name: str) -> str:
    (text,) = (check.found for check in found.checks if check.name == name)
    return text


def test_an_honest_draw_is_ok() -> None:
    found = Lottery().verified()
    assert [check.verdict for check in found.checks] == [Verdict.OK] * 6
    assert found.verdict is Verdict.OK
    assert found.last_ticket == lottery.ticket(SEED, lottery.winners(SEED, USERS, 5)[-1])


def slip_in_an_entry(one: Lottery) -> None:
    """Before the draw: hash and count agree, and nobody was told."""
    one.entries.append("friend")
    one.draws = [drawn(one.entries)]
    one.issued = [issued(u, n) for n, u in enumerate(lottery.winners(SEED, one.entries, 5), 1)]


def drop_an_entry(one: Lottery) -> None:
    one.entries.remove("user_3")
    one.draws = [drawn(one.entries)]
    one.issued = [issued(u, n) for n, u in enumerate(lottery.winners(SEED, one.entries, 5), 1)]


def exchange_an_entry_afterwards(one: Lottery) -> None:
    one.entries[one.entries.index(loser())] = "friend"


def add_an_entry_afterwards(one: Lottery) -> None:
    one.entries.append("late")


def loser() -> str:
    return next(user for user in USERS if user not in lottery.winners(SEED, USERS, 5))


def swap_a_winner(one: Lottery) -> None:
    one.issued[2] = issued(loser(), 3)


def add_a_coupon(one: Lottery) -> None:
    one.issued.append(issued(loser(), 6))


def give_a_winner_another_coupon(one: Lottery) -> None:
    one.issued.append(issued(one.issued[0].user_id, 6))


def swap_sequences(one: Lottery) -> None:
    first, second = one.issued[:2]
    one.issued[:2] = [issued(first.user_id, 2), issued(second.user_id, 1)]


def leave_a_winner_out(one: Lottery) -> None:
    del one.issued[2]


def draw_fewer(one: Lottery) -> None:
    one.draws = [one.draws[0].model_copy(update={"winner_count": 3})]
    del one.issued[3:]


def draw_by_another_seed(one: Lottery) -> None:
    one.draws = [drawn(USERS, seed=OTHER_SEED)]
    one.issued = [issued(u, n) for n, u in enumerate(lottery.winners(OTHER_SEED, USERS, 5), 1)]


def draw_twice(one: Lottery) -> None:
    one.draws.append(drawn(USERS[1:]))


def draw_nothing(one: Lottery) -> None:
    one.draws.clear()


def choose_another_seed_later(one: Lottery) -> None:
    """All fits the seed that was chosen last."""
    one.puts.append(put(OTHER_SEED, number=2))


def hide_the_seed_hash(one: Lottery) -> None:
    one.puts.append(put(None, number=2))


def never_publish_a_seed_hash(one: Lottery) -> None:
    one.puts = [put(None)]


def lie_about_the_count(one: Lottery) -> None:
    one.draws = [one.draws[0].model_copy(update={"entry_count": 13})]


def publish_no_campaign(one: Lottery) -> None:
    one.puts.clear()


def tell_one_user_another_seed_hash(one: Lottery) -> None:
    one.entered[3] = entered(USERS[3], OTHER_SEED)


def tell_one_user_no_seed_hash(one: Lottery) -> None:
    one.entered[3] = entered(USERS[3], None)


def choose_the_seed_after_the_entries(one: Lottery) -> None:
    """All that is published of it later fits."""
    one.puts = [put(OTHER_SEED)]
    draw_by_another_seed(one)


@pytest.mark.parametrize(
    ("manipulate", "checks"),
    [
        (slip_in_an_entry, {"entered"}),
        (drop_an_entry, {"entered"}),
        (exchange_an_entry_afterwards, {"entries", "entered"}),
        (add_an_entry_afterwards, {"entries", "entered", "winners"}),
        (swap_a_winner, {"winners"}),
        (add_a_coupon, {"winners"}),
        (give_a_winner_another_coupon, {"winners"}),
        (swap_sequences, {"winners"}),
        (leave_a_winner_out, {"winners"}),
        (draw_fewer, {"winners"}),
        (draw_by_another_seed, {"seed"}),
        (draw_twice, {"seed"}),
        (draw_nothing, {"seed"}),
        (choose_another_seed_later, {"commitment"}),
        (hide_the_seed_hash, {"commitment"}),
        (never_publish_a_seed_hash, {"commitment", "seed"}),
        (lie_about_the_count, {"entries"}),
        (publish_no_campaign, {"commitment"}),
        (tell_one_user_another_seed_hash, {"commitment"}),
        (tell_one_user_no_seed_hash, {"commitment"}),
        (choose_the_seed_after_the_entries, {"commitment"}),
    ],
)
def test_a_manipulation_is_found(manipulate: Callable[[Lottery], None], checks: set[str]) -> None:
    one = Lottery()
    manipulate(one)
    found = one.verified()
    assert failed(found) == checks
    assert found.verdict is Verdict.FAILED


def test_a_swapped_winner_is_named() -> None:
    one = Lottery()
    swap_a_winner(one)
    assert told(one.verified(), "winners") == f"{loser()} has coupon 3 and did not win"


def test_the_order_of_events_on_the_topic_is_no_evidence() -> None:
    """Instances publish on their own: a draw may lie before an entry, an entry before the put."""
    one = Lottery()
    assert verify(history(one.events()[::-1]), one.entries).verdict is Verdict.OK


def test_events_that_come_again_say_nothing_new() -> None:
    one = Lottery(puts=[put(limit=9), put(number=2, limit=5)])
    again = one.draws[0].model_copy(update={"command_id": "asked-again"})
    events = [
        *one.puts, *one.entered, *one.puts[:1], *one.draws, *one.issued, *one.issued[1:3],
        *one.draws, again, *one.entered, *one.puts,
    ]  # fmt: skip
    assert verify(history(events), one.entries).verdict is Verdict.OK


def test_refusals_say_nothing_of_the_draw() -> None:
    refused = CouponRequestRefused(
        command_id="e-x", coupon_id="L", user_id="late", reason=CouponRefusal.NOT_OPEN
    )
    found = verify(history([*Lottery().events(), refused]), USERS)
    assert found.verdict is Verdict.OK


def test_the_limit_is_that_of_the_last_change_before_the_draw() -> None:
    one = Lottery(puts=[put(limit=3), put(number=2, limit=5)])
    assert one.verified().verdict is Verdict.OK
    later = verify(history([*one.events(), put(number=3, limit=9)]), one.entries)
    assert later.verdict is Verdict.OK


def test_coupons_that_are_yet_to_come_leave_the_check_open() -> None:
    one = Lottery()
    del one.issued[3:]
    found = one.verified()
    assert found.verdict is Verdict.OPEN
    assert told(found, "winners").startswith("3 of 5 coupons are given out yet")


def test_a_record_that_can_not_be_read_leaves_the_draw_open() -> None:
    past = Lottery().history()
    past.unreadable = 1
    assert verify(past, USERS).verdict is Verdict.OPEN


@pytest.mark.parametrize(("gone", "verdict"), [(1, Verdict.OPEN), (4, Verdict.OPEN)])
def test_what_retention_took_is_not_held_against_the_draw(gone: int, verdict: Verdict) -> None:
    one = Lottery()
    found = verify(history(one.events()[gone:], is_cut=True), one.entries)
    assert found.verdict is verdict
    assert not failed(found)
    assert "retention" in told(found, "commitment")


def test_a_change_that_is_left_still_commits_where_retention_took_the_first() -> None:
    one = Lottery()
    events = [one.entered[5], put(number=2), *one.entered[6:], *one.draws, *one.issued]
    found = verify(history(events, is_cut=True), one.entries)
    assert not failed(found)
    assert told(found, "seed") == "its SHA-256 is seedHash"
    assert "5 others entered before what is left of the topic" in told(found, "entered")


def test_a_cut_hides_no_manipulation_that_can_still_be_seen() -> None:
    for manipulate in (swap_a_winner, add_a_coupon, draw_by_another_seed, draw_twice):
        one = Lottery(is_cut=True)
        manipulate(one)
        assert failed(one.verified())


@pytest.mark.parametrize(
    ("events", "is_cut", "said"),
    [
        ([], False, "tells of no lottery L. `orderctl coupon list`"),
        ([], True, "gone by retention"),
        ([put(None, kind=CampaignKind.FIRST_COME)], False, "L is first_come, which is not drawn"),
        ([put(), entered("user_1")], False, "`orderctl lottery draw L` draws it"),
        ([entered("user_1"), issued("user_1", 1)], True, "L isn't drawn, as far as is published"),
    ],
)
def test_without_a_draw_it_says_why(events: list[Message], is_cut: bool, said: str) -> None:
    assert said in (why_not_verifiable(history(events, is_cut=is_cut)) or "")


ids = st.text("abcXYZ019._-", min_size=1, max_size=8)


@st.composite
def honest_draws(draw: st.DrawFn) -> Lottery:
    users = draw(st.lists(ids, unique=True, max_size=20))
    seed = draw(st.text("0123456789abcdef", min_size=32, max_size=64))
    limit = draw(st.integers(1, 25))
    winners = lottery.winners(seed, users, limit)
    return Lottery(
        puts=[put(seed, limit=limit)],
        entered=[entered(user, seed) for user in draw(st.permutations(users))],
        draws=[drawn(users, seed=seed, limit=limit)],
        issued=[issued(user, number) for number, user in enumerate(winners, 1)],
        entries=users,
    )


@given(honest_draws(), st.data())
def test_an_honest_draw_is_ok_however_often_its_events_come(
    one: Lottery, data: st.DataObject
) -> None:
    events = one.events()
    # Each event again, at any place behind its first.
    for place in range(len(events) - 1, 0, -1):
        if data.draw(st.booleans()):
            events.insert(data.draw(st.integers(place, len(events))), events[place])
    assert verify(history(events), one.entries).verdict is Verdict.OK


@given(honest_draws(), st.data())
def test_no_other_outcome_is_ok(one: Lottery, data: st.DataObject) -> None:
    """Whoever has whichever coupons: none but the right ones pass."""
    users = one.entries or ["nobody"]
    given_out = data.draw(
        st.lists(st.tuples(st.sampled_from(users), st.integers(1, 25)), unique=True, max_size=25)
    )
    right = {(event.user_id, event.sequence) for event in one.issued}
    other = replace(one, issued=[issued(*each) for each in given_out])
    assert (other.verified().verdict is Verdict.OK) == (set(given_out) == right)
