"""Whatever text and whatever facts come: a rule or where it is wrong, yes or why not."""

from __future__ import annotations

import re
from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from coupon.rule_costs import MAX_STEPS
from coupon.rules import InvalidRuleError, Rule
from shared.contracts.base import MAX_MONEY, MAX_RULE_CHARS, Note
from shared.contracts.facts import MAX_FACT_CHARS, MAX_FACTS, Facts

NOTE: Final[TypeAdapter[str]] = TypeAdapter(Note)
FULL: Final = Facts(
    user={name: ["x" * MAX_FACT_CHARS] * MAX_FACTS for name in ("l", "f1", "f2")},
    order={name: list(range(MAX_FACTS)) for name in ("l", "f1", "f2")},
)

# Texts of words that rules are made of come much further than texts of any characters.
WORDS: Final = [
    *("user", "order", ".", ".tier", ".l", ".f1", "['l']", "[0]", "(", ")", "[", "]", "{", "}"),
    *(",", ":", "?", "!", "-", "+", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", " in "),
    *("x", "y", "1", "0", "-1", "9223372036854775807", "1.5", "'a'", "'gold'", "b'a'", "true"),
    *("false", "null", "has(", "size(", "int(", ".all(x,", ".exists(y,", ".map(x,", ".size()"),
    *(".filter(y,", ".exists_one(x,", ".contains('a')", ".startsWith(", "matches(", "\n", "//"),
]
texts = st.text(max_size=MAX_RULE_CHARS) | st.lists(st.sampled_from(WORDS), max_size=20).map(
    "".join
)

# Well-formed rules, so that most are evaluated. ELEMENT is that of the innermost loop, if any.
FACT: Final = ["user.tier", "user.age", "order.total", "order.other", "user['l']", "ELEMENT"]
LISTS: Final = ["user.l", "order.f1", "user.f2", "order.l", "[1, 2]", "user", "ELEMENT"]


def _loop(over: str, macro: str, body: str) -> str:
    element = f"x{body.count('x')}"
    return f"({over}).{macro}({element}, {body.replace('ELEMENT', element)})"


def _loops(macros: str, body: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_loop, lists, st.sampled_from(macros.split()), body)


values = st.deferred(
    lambda: st.one_of(
        st.sampled_from(FACT),
        numbers,
        lists,
        st.builds("{}[{}]".format, st.sampled_from(LISTS), st.sampled_from(["0", "ELEMENT"])),
        st.builds("({} ? {} : {})".format, truths, st.sampled_from(FACT), values),
        st.builds("({} + user.age)".format, st.sampled_from(FACT)),
    )
)
numbers = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["0", "1", "9223372036854775807", "int(user.age)"]),
        st.builds("size({})".format, st.sampled_from(FACT)),
        st.builds("({} {} {})".format, numbers, st.sampled_from("+-*/%"), numbers),
    )
)
lists = st.deferred(
    lambda: st.one_of(
        st.sampled_from(LISTS),
        st.builds("({} + user.l)".format, st.sampled_from(LISTS)),
        st.builds("[{}, {}, user.tier]".format, values, values),
        _loops("map", values),
        _loops("filter", truths),
    )
)
truths = st.deferred(
    lambda: st.one_of(
        st.builds("({} {} user.tier)".format, values, st.sampled_from(["==", "!="])),
        st.builds("({} {} order.total)".format, numbers, st.sampled_from(["<", ">="])),
        st.builds("({} in {})".format, st.sampled_from(FACT), lists),
        st.builds("{}.contains({})".format, st.sampled_from(FACT), st.sampled_from(FACT)),
        st.builds("({} {} {})".format, truths, st.sampled_from(["&&", "||"]), truths),
        st.builds("!{}".format, st.sampled_from(["user.age", "has(user.l)", "ELEMENT"])),
        _loops("all exists exists_one", truths),
    )
)
rules = truths.map(lambda text: text.replace("ELEMENT", "user.tier"))

scalars = (
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    | st.integers(-MAX_MONEY, MAX_MONEY)
    | st.booleans()
)
maps = st.dictionaries(
    st.sampled_from(["tier", "age", "total", "l", "f1", "f2", "other"]),
    scalars | st.lists(scalars, max_size=4),
)
facts_of_any_kind = st.builds(Facts, user=st.none() | maps, order=st.none() | maps)


def _compiled(text: str) -> Rule | None:
    try:
        return Rule.compile(text)
    except InvalidRuleError as error:
        told = NOTE.validate_python(str(error))
    assert re.match(r"line \d+, column \d+: .", told)
    return None


@settings(deadline=None)  # the first example loads the library
@given(texts, facts_of_any_kind)
@example("\x00", Facts())
@example("\ud800", Facts())
@example("'" * MAX_RULE_CHARS, Facts())
def test_any_text_is_a_rule_or_told_wrong(text: str, facts: Facts) -> None:
    rule = _compiled(text)
    if rule is not None:
        rule.refuses(facts)


@settings(deadline=None)
@given(rules, facts_of_any_kind)
def test_any_rule_answers_any_facts(text: str, facts: Facts) -> None:
    rule = _compiled(text)
    if rule is None:
        return
    assert rule.steps <= MAX_STEPS
    for given_facts in (facts, FULL, None):
        reason = rule.refuses(given_facts)
        assert reason is None or NOTE.validate_python(reason)
        assert reason == rule.refuses(given_facts)
        # The library has a budget of loops' turns of its own; to reach it ends here.
        assert reason != "the rule can't be evaluated on these facts"


SECRET: Final = "qzjx"  # stands in no reason and no rule

secret_maps = st.dictionaries(
    st.sampled_from(["tier", "age", "total", "l", "f1", "f2", "other"]),
    st.just(SECRET) | st.just([SECRET, SECRET]),
)


@settings(deadline=None)
@given(rules, st.builds(Facts, user=secret_maps, order=secret_maps))
@example("user[user.tier] == 1", Facts(user={"tier": SECRET}))
@example("int(user.tier) == 1", Facts(user={"tier": SECRET}))
@example("{user.tier: 1, user.age: 2} == {}", Facts(user={"tier": SECRET, "age": SECRET}))
def test_a_reason_holds_no_value_of_a_fact(text: str, facts: Facts) -> None:
    rule = _compiled(text)
    if rule is not None:
        assert SECRET not in (rule.refuses(facts) or "")
