"""Which fault befalls a request: the same from the same seed, and only where it may."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway_simulator.faults import Faults, Name, Rule, fate
from gateway_simulator.records import ChargeBody, RefundBody

NAMES = get_args(Name)
OPERATIONS = ("charge", "refund", "inquiry")
FAMILIES = ("down", "request", "webhook")
CHARGE = ChargeBody(amount=1_200, currency="KRW", reference="o-1", customer="ann")
REFUND = RefundBody(amount=1_200, currency="KRW", charge="ch_1")

keys = st.text("abc:-", min_size=1, max_size=6)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    found: dict[str, Any] = {
        "fault": draw(st.sampled_from(NAMES)),
        "share": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(0, 1)),
        "seconds": draw(st.floats(0, 10)),
        "keyPrefix": draw(st.sampled_from(["", "a", "b:"])),
    }
    if draw(st.booleans()):
        found["onlyKeys"] = draw(st.lists(keys, max_size=3))
    if draw(st.booleans()):
        found["times"] = draw(st.integers(1, 3))
    return Rule.model_validate(found)


faults = st.builds(
    lambda seed, some: Faults(seed=seed, rules=tuple(some)),
    st.integers(0, 10),
    st.lists(rules(), max_size=6),
)
requests = st.lists(st.tuples(st.sampled_from(OPERATIONS), keys), max_size=30)


def run(faults: Faults, sequence: list[tuple[Any, str]]) -> list[tuple[Any, str, int, Any]]:
    """What struck each request: (operation, key, attempt, places by family)."""
    struck = [0] * len(faults.rules)
    attempts: dict[tuple[str, str], int] = {}
    found = []
    for operation, key in sequence:
        attempt = attempts[operation, key] = attempts.get((operation, key), 0) + 1
        places = {}
        for family in FAMILIES:
            place = faults.choose(family, operation, key, attempt, struck)  # type: ignore[arg-type]
            if place is not None:
                struck[place] += 1
            places[family] = place
        found.append((operation, key, attempt, places))
    return found


@given(faults, requests)
def test_a_rule_strikes_only_where_it_may(faults: Faults, sequence: list[tuple[Any, str]]) -> None:
    counts = [0] * len(faults.rules)
    for operation, key, _, places in run(faults, sequence):
        for family, place in places.items():
            if place is None:
                continue
            rule = faults.rules[place]
            counts[place] += 1
            assert rule.family == family
            assert operation in rule.on
            assert key.startswith(rule.key_prefix)
            assert rule.only_keys is None or key in rule.only_keys
            assert rule.share > 0
    for rule, count in zip(faults.rules, counts, strict=True):
        assert rule.strikes_at_most is None or count <= rule.strikes_at_most


@given(faults, requests, st.randoms())
def test_a_run_can_be_repeated_however_it_interleaves(
    faults: Faults, sequence: list[tuple[Any, str]], chance: Any
) -> None:
    unlimited = [rule.model_copy(update={"times": None}) for rule in faults.rules]
    faults = Faults(seed=faults.seed, rules=tuple(unlimited))
    first = {(operation, key, n): places for operation, key, n, places in run(faults, sequence)}
    shuffled = list(sequence)
    chance.shuffle(shuffled)
    again = {(operation, key, n): places for operation, key, n, places in run(faults, shuffled)}
    assert again == first


@given(faults, st.sampled_from(OPERATIONS), keys, st.integers(1, 5))
def test_the_first_of_a_family_that_is_drawn_counts(
    faults: Faults, operation: Any, key: str, attempt: int
) -> None:
    untouched = [0] * len(faults.rules)
    for family in FAMILIES:
        request = (family, operation, key, attempt, untouched)
        place = faults.choose(*request)  # type: ignore[arg-type]
        earlier = faults.rules[:place]  # all of them where none strikes
        before = Faults(seed=faults.seed, rules=earlier)
        assert before.choose(*request) is None  # type: ignore[arg-type]
        if place is not None:
            with_it = Faults(seed=faults.seed, rules=faults.rules[: place + 1])
            assert with_it.choose(*request) == place, "later rules change nothing"  # type: ignore[arg-type]


def test_a_share_is_about_that_share() -> None:
    faults = Faults.model_validate({"seed": 7, "rules": [{"fault": "throttle", "share": 0.1}]})
    struck = [faults.choose("request", "charge", f"k-{n}", 1, [0]) for n in range(10_000)]
    assert 900 < struck.count(0) < 1_100


def test_another_seed_strikes_others() -> None:
    def struck(seed: int) -> list[int | None]:
        faults = Faults(seed=seed, rules=(Rule(fault="throttle", share=0.5),))
        return [faults.choose("request", "charge", f"k-{n}", 1, [0]) for n in range(64)]

    assert struck(1) == struck(1) != struck(2)


def test_each_request_under_a_key_is_drawn_anew() -> None:
    faults = Faults(rules=(Rule(fault="throttle", share=0.5),))
    drawn = [faults.choose("request", "charge", "k", attempt, [0]) for attempt in range(1, 65)]
    assert set(drawn) == {None, 0}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"rules": [{"fault": "fire"}]}, "rules.0"),
        ({"rules": [{"fault": "late"}]}, "late needs 'seconds'"),
        ({"rules": [{"fault": "decline", "on": ["refund"]}]}, "decline makes no sense on refund"),
        ({"rules": [{"fault": "late", "seconds": 1, "how": "close"}]}, "hang or 202 or 504"),
        ({"rules": [{"fault": "throttle", "how": "hang"}]}, "it has one way only"),
        ({"rules": [{"fault": "throttle", "share": 1.1}]}, "less than or equal to 1"),
        ({"rules": [{"fault": "throttle", "shares": 1}]}, "Extra inputs"),
        ({"rule": []}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(document: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Faults.model_validate(document)


def test_without_places_a_fault_is_for_what_is_charged_and_refunded() -> None:
    assert Rule.model_validate({"fault": "throttle"}).on == {"charge", "refund"}
    assert Rule.model_validate({"fault": "decline"}).on == {"charge"}
    assert Rule.model_validate({"fault": "down"}).on == set(OPERATIONS)


def test_what_is_booked_instead() -> None:
    def of(body: ChargeBody | RefundBody, **rule: Any) -> Any:
        return fate(Rule.model_validate(rule), None, body)

    assert of(CHARGE, fault="wrong_amount").amount == 1_201
    assert of(REFUND, fault="wrong_amount", by=200).amount == 1_000, "it would exceed the charge"
    assert of(REFUND, fault="wrong_amount", by=5_000).amount == 1
    assert of(CHARGE, fault="wrong_currency").currency == "USD"
    dollars = CHARGE.model_copy(update={"currency": "USD"})
    assert of(dollars, fault="wrong_currency").currency == "EUR"
    assert of(CHARGE, fault="decline", declineCode="stolen").decline_code == "stolen"
    thrice = fate(None, Rule(fault="duplicate_webhooks", times=2), CHARGE)
    assert (thrice.copies, thrice.mishap) == (3, "duplicate_webhooks")
