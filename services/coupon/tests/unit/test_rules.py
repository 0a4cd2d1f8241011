"""What rules of conditional campaigns say, and where a text is no rule."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from typing import Final

import pytest
from pydantic import TypeAdapter

from coupon.rules import FUNCTIONS, MACROS, RULES_KEPT, InvalidRuleError, Rule, rule_of
from shared.contracts.base import MAX_NOTE_CHARS, MAX_RULE_CHARS, Note
from shared.contracts.facts import Facts

NOTE: Final[TypeAdapter[str]] = TypeAdapter(Note)
FACTS: Final = Facts(
    user={"tier": "gold", "age": 31, "banned": False, "countries": ["KR", "JP"], "points": 0},
    order={"total": 15_000, "items": 3},
)


def invalid(text: str) -> str:
    """Why `text` is no rule."""
    with pytest.raises(InvalidRuleError) as caught:
        Rule.compile(text)
    return NOTE.validate_python(str(caught.value))


def refused(text: str, facts: Facts | None = FACTS) -> str | None:
    """The rule's answer, which must fit into a note."""
    reason = Rule.compile(text).refuses(facts)
    assert reason is None or NOTE.validate_python(reason)
    return reason


@pytest.mark.parametrize(
    "text",
    [
        "user.tier == 'gold'",
        "user['tier'] == 'gold'",
        "user.tier in ['gold', 'platinum']",
        "order.total >= 10000 && 'KR' in user.countries",
        "user.age >= 18 && !(user.banned)",
        "!has(user.x) || user.x == 1",
        "has(user.tier) && user.tier.startsWith('g') && user.tier.endsWith('d')",
        "user.countries.exists(country, country == 'JP')",
        "user.countries.all(country, size(country) == 2)",
        "user.countries.exists_one(country, country.contains('K'))",
        "user.countries.filter(country, country != 'JP') == ['KR']",
        "user.countries.map(country, country + '!')[0] == 'KR!'",
        "order.total / order.items - 1 == 4999 && order.total % 2 == 0 && -order.items < 0",
        "int('18') < user.age ? true : false",
        "user.missing == 1 || true",
        "size(order) == 2 && 'total' in order",
        "// adults only\nuser.age >= 18",
        "'KR' in user.countries && 'é😀'.size() == 2",
    ],
)
def test_facts_that_fulfil_a_rule_are_not_refused(text: str) -> None:
    assert refused(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "user.tier == 'silver'",
        "order.total >= 20000 && 'KR' in user.countries",
        "'US' in user.countries",
        "has(user.x) && user.x == 1",
    ],
)
def test_facts_that_do_not_fulfil_a_rule_are_refused(text: str) -> None:
    assert refused(text) == "the rule says no"


def test_a_boolean_is_no_number() -> None:
    assert refused("user.banned == 0") == "the rule says no"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user.shoe == 1", "not among the facts: user.shoe"),
        ("user['shoe'] == 1 && order.total > 1", "not among the facts: user.shoe"),
        ("user.a == user.b && order.c == user.d", "not among the facts: order.c, user.a, user.b"),
        ("has(user.shoe) ? user.shoe == 1 : user.sock == 1", "not among the facts: user.sock"),
        ("user[user.tier] == 1", "not among the facts: what the rule looks up"),
        ("user.tier > 18", "a fact has another type or form than the rule expects"),
        ("user.tier.first == 'a'", "a fact has another type or form than the rule expects"),
        ("!user.tier", "a fact has another type or form than the rule expects"),
        ("user.age.exists(x, x == 1)", "a fact has another type or form than the rule expects"),
        ("int(user.tier) == 1", "a fact has another type or form than the rule expects"),
        ("user.countries[2] == 'US'", "a list among the facts has no such element"),
        ("user.age * 9223372036854775807 > 1", "a number gets too large on these facts"),
        ("-9223372036854775808 - user.age < 1", "a number gets too large on these facts"),
        ("-9223372036854775808 / (user.points - 1) < 1", "a number gets too large on these facts"),
        ("order.total / user.points > 1", "the rule divides by zero on these facts"),
        ("order.total % user.points > 1", "the rule divides by zero on these facts"),
        ("user.tier", "the rule gives string on these facts, it must give true or false"),
        ("true ? user.age : 1", "the rule gives int on these facts, it must give true or false"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_reason(text: str, reason: str) -> None:
    answer = refused(text)
    assert answer is not None
    assert answer.startswith(reason)


@pytest.mark.parametrize("facts", [None, Facts(), Facts(user={}), Facts(order={"total": 1})])
def test_facts_that_are_left_out_are_empty(facts: Facts | None) -> None:
    assert refused("user.tier == 'gold'", facts) == "not among the facts: user.tier"
    assert refused("has(user.tier)", facts) == "the rule says no"
    assert refused("size(user) == 0", facts) is None


def test_what_no_sender_can_send_is_refused_where_the_rule_looks_at_it() -> None:
    facts = Facts.model_construct(user={"tier": "gold", "half": "\ud800", "wide": 2**200})
    assert refused("user.half == 'x'", facts) == "the rule can't be evaluated on these facts"
    assert refused("user.wide == 1", facts) is not None
    assert refused("user.tier == 'gold'", facts) is None


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "mismatched input the end where a value is expected"),
        ("user.tier ==", 1, 13, "mismatched input the end where a value is expected"),
        ("user.age >= 18 &&\n  (user.tier == 'gold'", 2, 23, "missing ')' at the end"),
        ("user.tier == 'gold' user.age", 1, 21, "mismatched input 'user' expecting the end"),
        ("user.tier = 'gold'", 1, 11, "token recognition error at: '= '"),
        ("'é😀' + == 1", 1, 8, "extraneous input '=='"),
        ("user.age == 9223372036854775808", 1, 13, "invalid int literal"),
        ("user.tier == 1 + 'a'", 1, 16, "found no matching overload for '_+_'"),
        ("has(user)", 1, 5, "has() argument must be a field selection"),
        ("true &&\n usr.tier == 'gold'", 2, 5, "there is no usr.tier here; there are order and"),
        ("tier == 'gold'", 1, 1, "there is no tier here"),
        ("now() > 1", 1, 4, "there is no now here"),
        ("timestamp('2026-01-01T00:00:00Z') == 1", 1, 10, "there is no timestamp here"),
        ("user.tier.matches('(a+)+$')", 1, 18, "there is no matches here"),
        ("user.tier.upper() == 'X'", 1, 16, "there is no upper here"),
        ("__import__('os') == 1", 1, 11, "there is no __import__ here"),
        ("user.age.getHours() == 1", 1, 18, "there is no getHours here"),
        ("google.protobuf.Int64Value{value: 1} == 1", 1, 1, "can't make a google.protobuf.Int64"),
        ("1 + 1", 1, 3, "the rule gives int here, it must give true or false"),
        ("\n\n  [user.tier]", 3, 3, "the rule gives list"),
        ("'gold'", 1, 1, "the rule gives string"),
        ("user.a.all(order, true)", 1, 11, "an element can't be called order"),
        ("true && '\ud800' == 'a'", 1, 10, "half of a surrogate pair"),
        ("true\n" + " " * MAX_RULE_CHARS, 2, 996, "the rule has 1,005 characters, 1,000 are"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    text: str, line: int, column: int, reason: str
) -> None:
    told = invalid(text)
    assert told.startswith(f"line {line}, column {column}: ")
    assert reason in told


def test_an_error_says_what_there_is() -> None:
    told = invalid("usr.tier == 'gold'")
    assert all(f"{name}()" in told for name in (*FUNCTIONS, *MACROS))


def test_a_long_error_is_cut() -> None:
    told = invalid("a" * MAX_RULE_CHARS)
    assert len(told) == MAX_NOTE_CHARS
    assert told.endswith("…")


def test_what_cannot_be_printed_is_not_in_an_error() -> None:
    assert invalid("true \x00").isprintable()
    assert invalid("'\u202e\x1b").isprintable()


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("(" * 40 + "true" + ")" * 40, 1, 40),
        ("true &&\n" + "[" * 40 + "]" * 40 + " == []", 2, 40),
        ("user" + ".a" * 40 + " == 1", 1, 1),
        ("1" + " + 1" * 40 + " > 1", 1, 1),
    ],
)
def test_what_nests_too_deep_is_told_with_its_place(text: str, line: int, column: int) -> None:
    told = invalid(text)
    assert told.startswith(f"line {line}, column {column}: the rule nests too deep")


def test_a_rule_is_compiled_once() -> None:
    assert rule_of("user.tier == 'gold'") is rule_of("user.tier == 'gold'")
    assert rule_of.cache_info().maxsize == RULES_KEPT
    for _ in range(2):
        with pytest.raises(InvalidRuleError):
            rule_of("user.tier ==")


# What is said once, or as often within itself as a text of that length allows.
NESTED: Final = [
    *(("(", ")"), ("[", "]"), ("{1: ", "}"), ("size(", ")"), ("int(", ")"), ("has(", ")")),
    *(("user[", "]"), ("!(", ")"), ("-(", ")"), ("[1, ", "]"), ("user.l.all(x, ", ")")),
    *(("user.l.map(x, ", ")"), ("true?true:", ""), ("(true?(", "):false)"), ("true?", "")),
    *(("'", ""), ('"""', ""), ("r'", ""), ("//", ""), ("!", ""), ("-", ""), ("- ", "")),
    *((".", ""), ("@", ""), ("`", ""), ("?", ""), ("\\", ""), ("\0", ""), ("\n", ""), ("😀", "")),
    *(("user.", ""), ("1+", ""), ("1<", ""), ("true&&", ""), ("true||true&&", "")),
    *(("true in ", ""), ("user.l.map(x, x).", ""), ("user.l[0]+", ""), ("[user.l, ", "]")),
]
OUTLIVE: Final = """
import json, sys
from coupon.rules import InvalidRuleError, Rule
from shared.contracts.facts import Facts

facts = Facts(user={"a": 1, "l": ["x"]}, order={})
for text in json.load(sys.stdin):
    try:
        Rule.compile(text).refuses(facts)
    except InvalidRuleError:
        pass
print("alive")
"""


def test_no_text_ends_the_process() -> None:
    # In a process of its own, since native code could take this one with it.
    texts = [
        (before * depth + inside + after * depth)[:MAX_RULE_CHARS]
        for (before, after), inside, depth in product(
            NESTED, ["", "true", "1", "user.a"], [1, 10, 29, 32, 100, MAX_RULE_CHARS]
        )
    ]
    done = subprocess.run(
        [sys.executable, "-c", OUTLIVE], input=json.dumps(texts), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
