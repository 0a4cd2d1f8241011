"""When the gateway is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from payment.breaker import (
    FAILED_AT_MOST,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    PROBE_LOST_AFTER_S,
    WINDOW,
    Breaker,
    BreakerState,
    RetryBudget,
)


def run(breaker: Breaker, now_s: float, *, is_failure: bool) -> None:
    """One call, at once."""
    begun_in = breaker.enter(now_s)
    assert begun_in is not None
    breaker.leave(begun_in, now_s, is_failure=is_failure)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(WINDOW):
        run(breaker, now_s, is_failure=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_a_gateway_that_fails_now_and_then_is_asked_on() -> None:
    breaker = Breaker()
    failures = int(WINDOW * FAILED_AT_MOST)
    for number in range(10 * WINDOW):
        run(breaker, 0.0, is_failure=number % WINDOW < failures)
        assert breaker.room(0.0) is None


def test_f33_one_failure_more_opens_it_and_a_short_past_does_not() -> None:
    breaker = Breaker()
    failures = int(WINDOW * FAILED_AT_MOST) + 1
    for number in range(WINDOW - 1):
        run(breaker, 0.0, is_failure=number < failures)
        assert breaker.state is BreakerState.CLOSED
    run(breaker, 0.0, is_failure=False)
    assert breaker.state is BreakerState.OPEN
    assert (breaker.room(0.0), breaker.enter(0.0)) == (0, None)


@given(st.integers(1, 50), st.floats(FIRST_PAUSE_S, 1_000))
def test_f33_after_the_pause_exactly_one_probe_goes_however_many_ask(
    asking: int, waited_s: float
) -> None:
    breaker = opened()
    assert breaker.room(waited_s) == 1
    passed = [breaker.enter(waited_s) for _ in range(asking)]
    assert passed[0] is not None
    assert passed[1:] == [None] * (asking - 1)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.room(waited_s) == 0


def test_f33_a_probe_that_succeeds_closes_it_and_its_past_is_forgotten() -> None:
    breaker = opened()
    run(breaker, FIRST_PAUSE_S, is_failure=False)
    assert breaker.state is BreakerState.CLOSED
    for _ in range(WINDOW - 1):
        run(breaker, FIRST_PAUSE_S, is_failure=True)
    assert breaker.state is BreakerState.CLOSED


def test_f33_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now_s, pauses = opened(), 0.0, []
    for _ in range(6):
        pause_s = FIRST_PAUSE_S
        while breaker.room(now_s + pause_s) == 0:
            pause_s += 0.5
        pauses.append(pause_s)
        now_s += pause_s
        run(breaker, now_s, is_failure=True)
        assert breaker.state is BreakerState.OPEN
    assert pauses == [2.0, 4.0, 8.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_after_it_closed_the_first_pause_is_short_again() -> None:
    breaker = opened()
    run(breaker, 2.0, is_failure=True)
    run(breaker, 6.0, is_failure=False)
    for _ in range(WINDOW):
        run(breaker, 10.0, is_failure=True)
    assert breaker.room(10.0 + FIRST_PAUSE_S) == 1


def test_a_lost_probe_is_given_up_and_another_goes() -> None:
    breaker = opened()
    lost = breaker.enter(FIRST_PAUSE_S)
    assert lost is not None
    assert breaker.enter(FIRST_PAUSE_S + PROBE_LOST_AFTER_S) is None
    later_s = FIRST_PAUSE_S + PROBE_LOST_AFTER_S + 0.1
    probe = breaker.enter(later_s)
    assert probe is not None
    assert breaker.enter(later_s) is None
    breaker.leave(lost, later_s, is_failure=False)  # too late to tell anything
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.leave(probe, later_s, is_failure=False)
    assert breaker.state is BreakerState.CLOSED


@given(st.booleans())
def test_what_began_before_it_opened_is_no_probe(is_failure: bool) -> None:
    """Slow answers arrive when the pause is over: they tell of how the gateway was."""
    breaker = Breaker()
    slow = breaker.enter(0.0)
    assert slow is not None
    for _ in range(WINDOW):
        run(breaker, 0.0, is_failure=True)
    probe = breaker.enter(FIRST_PAUSE_S)
    assert probe is not None
    breaker.leave(slow, FIRST_PAUSE_S, is_failure=is_failure)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.enter(FIRST_PAUSE_S) is None
    breaker.leave(probe, FIRST_PAUSE_S, is_failure=is_failure)
    assert breaker.state is (BreakerState.OPEN if is_failure else BreakerState.CLOSED)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.booleans()), max_size=300))
def test_at_most_one_probe_is_out_at_any_time(steps: list[tuple[float, bool, bool]]) -> None:
    breaker, now_s = opened(), 0.0
    out: list[tuple[int, float]] = []
    for pause_s, answers, is_failure in steps:
        now_s += pause_s
        if answers and out:
            breaker.leave(out.pop(0)[0], now_s, is_failure=is_failure)
        room, begun_in = breaker.room(now_s), breaker.enter(now_s)
        assert (begun_in is None) == (room == 0)
        if begun_in is not None:
            out.append((begun_in, now_s))
        if breaker.state is BreakerState.HALF_OPEN:
            probes = [
                at_s
                for number, at_s in out
                if number == breaker._round and now_s - at_s <= PROBE_LOST_AFTER_S
            ]
            assert len(probes) <= 1


actions = st.tuples(st.floats(0, 3), st.integers(0, 200), st.integers(0, 100))


@given(st.floats(1, 100), st.lists(actions, max_size=60))
def test_retries_keep_to_their_rate_and_to_their_share_of_what_is_new(
    per_s: float, steps: list[tuple[float, int, int]]
) -> None:
    budget, now_s = RetryBudget(per_s), 0.0
    retried = new = 0
    saved = max(per_s * RetryBudget.SAVED_S, 1.0)
    for pause_s, wanted, news in steps:
        now_s += pause_s
        retries = min(wanted, budget.room(now_s))
        budget.spend(retries=retries, news=news)
        retried, new = retried + retries, new + news
        assert retried <= per_s * now_s + RetryBudget.SHARE * new + saved + 1e-6


@given(st.floats(1, 100), st.integers(0, 1_000))
def test_what_is_not_used_is_saved_for_a_moment_only(per_s: float, news: int) -> None:
    budget = RetryBudget(per_s)
    budget.room(0.0)
    budget.spend(retries=0, news=news)
    assert budget.room(1_000.0) == int(max(per_s * RetryBudget.SAVED_S, 1.0))


def test_no_retry_is_left_where_all_are_spent_until_time_passes() -> None:
    budget = RetryBudget(10)
    budget.spend(retries=budget.room(0.0), news=0)
    assert budget.room(0.0) == 0
    assert budget.room(0.5) == 5
