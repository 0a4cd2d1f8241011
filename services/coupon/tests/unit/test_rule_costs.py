"""What a rule may cost is counted before it is taken, and a dear one is no rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest

from coupon.rule_costs import MAX_LOOPS, MAX_STEPS
from coupon.rules import InvalidRuleError, Rule
from shared.contracts.facts import MAX_FACT_CHARS, MAX_FACTS, Facts

FULL_LIST: Final = [f"{number:0{MAX_FACT_CHARS}}" for number in range(MAX_FACTS)]
FULL: Final = Facts(
    user={f"f{number}": FULL_LIST for number in range(MAX_FACTS)},
    order={f"f{number}": FULL_LIST for number in range(MAX_FACTS)},
)


def invalid(text: str) -> str:
    """Why `text` is no rule."""
    with pytest.raises(InvalidRuleError) as caught:
        Rule.compile(text)
    return str(caught.value)


ALL: Final = "user.f{}.all(x{}, {})"


def loops(depth: int, inner: str = "true") -> str:
    for level in range(depth, 0, -1):
        inner = ALL.format(level, level, inner)
    return inner


def test_loops_nest_two_deep() -> None:
    assert Rule.compile(loops(MAX_LOOPS)).refuses(FULL) is None
    told = invalid(loops(MAX_LOOPS + 1))
    assert told.startswith("line 1, column 44: all, exists")
    beside = " && ".join([loops(MAX_LOOPS)] * 2)
    assert Rule.compile(beside).steps > 2 * MAX_FACTS**2


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("user.f1.all(x, user.f2.all(y, size(x) == size(y)))", 12),
        ("true && user.f1.all(x, user.f2.all(y, x in user.f3))", 20),
        ("user.f1.map(x, user.f2.map(y, x + y)).size() > 1", 12),
        ("user.f1.map(x, user.f2).exists(l, l.exists(y, y in user.f3))", 12),
        ("user.f1.exists(x, user.f2.exists(y, x.contains(y)))", 15),
        ("user.f1.filter(x, user.f2.filter(y, x == y) == [x]).size() > 1", 15),
        ("user.f1.all(x, x in " + " + ".join(["user.f2"] * 25) + ")", 12),
        ("(" + " + ".join(["user.f1"] * 25) + ").all(x, x in user.f2)", 254),
        ("user.all(k, user[k].all(x, x in user.f1))", 9),
        ("user == order", 6),
        ("[" + ", ".join(["1"] * 300) + "].map(x, x).size() > 1", 905),
        (" && ".join(["user.f1.map(x, x) == user.f2"] * 20), 0),
    ],
)
def test_what_costs_too_much_is_no_rule(text: str, column: int) -> None:
    told = invalid(text)
    assert "steps where lists of facts are full, 50,000 are allowed" in told
    assert not column or told.startswith(f"line 1, column {column}: ")


DEAR: Final = [
    "user.f1.all(x, order.f2.exists(y, x == y))",
    "user.f1.all(x, order.f2.all(y, x != y + 'a'))",
    "user.f1.all(x, order.f2.exists(y, x.startsWith(y)))",
    "user.f1.exists_one(x, order.f2.exists_one(y, x == y)) || true",
    "user.all(k, user[k] == user.f1)",
    "user.f1.filter(x, x in order.f2) == user.f1.map(x, x)",
    "(" + " + ".join(f"user.f{number}" for number in range(12)) + ").all(x, x != 'a')",
    " && ".join(f"user.f{number} == order.f{number}" for number in range(35)),
]
"""Near the limit, and fulfilled by the largest facts there are."""


@pytest.mark.parametrize("text", DEAR)
def test_a_rule_near_the_limit_is_answered_on_the_largest_facts(text: str) -> None:
    rule = Rule.compile(text)
    assert MAX_STEPS // 10 < rule.steps <= MAX_STEPS
    assert rule.refuses(FULL) is None


def test_a_loop_multiplies_what_is_in_it() -> None:
    inner = "x1 != 'a' && x1.contains('b')"
    once = Rule.compile(f"['a'].all(x1, {inner})").steps
    assert Rule.compile(loops(1, inner)).steps > MAX_FACTS * (once // 2)
    assert Rule.compile(loops(2, "x1 != x2")).steps > MAX_FACTS**2 * 5


def test_what_is_joined_costs_more_the_longer_it_gets() -> None:
    steps = [
        Rule.compile(" + ".join(["user.f1"] * count) + " != []").steps for count in (2, 4, 8, 16)
    ]
    assert all(longer > 2 * shorter for shorter, longer in pairwise(steps))


def test_a_fact_that_a_rule_does_not_name_costs_nothing() -> None:
    assert Rule.compile("user.f1 == 1").steps < Rule.compile("size(user) == 1").steps / 20
