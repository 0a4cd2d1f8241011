"""The rules of conditional campaigns: CEL over what is known of a user and an order. Pure.

A rule such as `user.tier == 'gold' && order.total >= 10000` says whether a user may have a coupon.
It knows two maps, `user` and `order`, that hold the facts of the request; has(user.tier) asks
whether one is there. It gives true or false. Operators, the macros and a few functions of CEL are
there, and nothing that asks a clock or changes anything; see docs/adr/0021-rules-in-cel.md.

A rule is compiled once, checked for names and types and for what it costs at most, or refused with
the place of what is wrong. Evaluation never fails: where a fact is missing or has another type than
the rule expects, the answer is no, with the reason.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from coupon.rule_costs import VARIABLES, UnfitRuleError, survey
from coupon.rule_trees import read_tree
from shared.contracts.base import MAX_NOTE_CHARS, MAX_RULE_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cel_expr_python import cel

    from coupon.rule_costs import Survey
    from shared.contracts.facts import Facts

RULES_KEPT: Final = 128
"""Compiled rules in memory: 3 KB for a short one, 120 KB for the longest."""

MACROS: Final = ("all", "exists", "exists_one", "filter", "has", "map")
FUNCTIONS: Final = ("contains", "endsWith", "int", "size", "startsWith")
_OPERATORS: Final = (
    "!_", "_&&_", "_||_", "_?_:_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "_[_]",
    "_+_", "_-_", "-_", "_*_", "_/_", "_%_", "@not_strictly_false",
)  # fmt: skip

_MISSING_SHOWN: Final = 3
_NAME_SHOWN_CHARS: Final = 64
_PLACED: Final = re.compile(r"INVALID_ARGUMENT: ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '(.*)' \(in container ''\)")
_VALUE_EXPECTED: Final = re.compile(r"expecting \{.*IDENTIFIER\}")


class InvalidRuleError(ValueError):
    """A text is no rule: where and why, in a sentence of at most `MAX_NOTE_CHARS` characters."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        """Both count from 1; a column is a character."""
        shown = "".join(c if c.isprintable() else "?" for c in reason)
        super().__init__(_cut(f"line {line}, column {column}: {shown}"))


class Rule:
    """A compiled rule."""

    __slots__ = ("_expression", "_survey")

    def __init__(self, expression: cel.Expression, survey: Survey) -> None:
        """For `compile` alone."""
        self._expression = expression
        self._survey = survey

    @classmethod
    def compile(cls, text: str) -> Self:
        """Raises InvalidRuleError where `text` is no CEL, is too long or deep, names what isn't
        there, gives something else than true or false, or costs too much."""
        _check_text(text)
        try:
            expression = _environment().compile(text)
        except RuntimeError as error:
            raise _explained(text, str(error)) from None
        root = read_tree(expression.serialize())
        try:
            needs = survey(root)
        except UnfitRuleError as error:
            raise _invalid_at(text, error.offset, str(error)) from None
        gives = expression.return_type().name()
        if gives not in {"BOOL", "DYN"}:
            raise _invalid_at(
                text,
                root.offset,
                f"the rule gives {gives.lower()} here, it must give true or false",
            )
        return cls(expression, needs)

    @property
    def steps(self) -> int:
        """What an evaluation costs at most, see `coupon.rule_costs`."""
        return self._survey.steps

    def refuses(self, facts: Facts | None) -> str | None:
        """None where the facts fulfil the rule, else why not, in at most `MAX_NOTE_CHARS`
        characters that hold no value of a fact. Facts that are left out are empty."""
        given: Mapping[str, Mapping[str, Any]] = {
            name: getattr(facts, name, None) or {} for name in VARIABLES
        }
        try:
            answer = self._expression.eval(data=self._needed(given))
            gives, value = answer.type().name(), answer.value()
        except (RuntimeError, TypeError, ValueError, OverflowError):
            # What a sender can send doesn't lead here. The error may hold values of facts.
            return "the rule can't be evaluated on these facts"
        if gives == "BOOL":
            return None if value else "the rule says no"
        if gives == "ERROR":
            return _cut(self._failure(str(value), given))
        return f"the rule gives {gives.lower()} on these facts, it must give true or false"

    def _needed(self, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Of the facts, those that the rule can look at: each costs time to hand over."""
        needs = self._survey
        data: dict[str, Any] = {
            name: given[name] if name in needs.whole else {} for name in VARIABLES
        }
        for variable, name in needs.read | needs.tested:
            if variable not in needs.whole and name in given[variable]:
                data[variable][name] = given[variable][name]
        return data

    def _failure(self, error: str, given: Mapping[str, Mapping[str, Any]]) -> str:
        """Why there is no answer. `error` is only told apart, never shown: it may hold facts."""
        if error.startswith("NOT_FOUND"):
            missing = sorted(
                f"{variable}.{name[:_NAME_SHOWN_CHARS]}"
                for variable, name in self._survey.read - self._survey.tested
                if name not in given[variable]
            )
            more = f" and {len(missing) - _MISSING_SHOWN} more" * (len(missing) > _MISSING_SHOWN)
            listed = ", ".join(missing[:_MISSING_SHOWN]) or "what the rule looks up"
            return f"not among the facts: {listed}{more}"
        if error.startswith("OUT_OF_RANGE"):
            return "a number gets too large on these facts"
        if error.endswith(("divide by zero", "modulus by zero")):
            return "the rule divides by zero on these facts"
        if error.startswith("UNKNOWN: Index error"):
            return "a list among the facts has no such element"
        return "a fact has another type or form than the rule expects"


@lru_cache(maxsize=RULES_KEPT)
def rule_of(text: str) -> Rule:
    """The rule, compiled once as long as it is among the last used. Raises InvalidRuleError."""
    return Rule.compile(text)


@cache
def _environment() -> cel.Env:
    """What rules may name, for the library's own checker.

    The library is loaded here: with protobuf's it takes 14 MB and some 0.1 s, which a process
    without rules is spared.
    """
    from cel_expr_python import cel

    config = cel.NewEnvConfigFromYaml(
        "stdlib:\n"
        f"  include_macros: [{', '.join(MACROS)}]\n"
        "  include_functions:\n"
        + "".join(f'  - name: "{name}"\n' for name in (*_OPERATORS, *FUNCTIONS))
    )
    facts = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(config=config, variables=dict.fromkeys(VARIABLES, facts))


def _check_text(text: str) -> None:
    if len(text) > MAX_RULE_CHARS:
        raise _invalid_at(
            text,
            MAX_RULE_CHARS,
            f"the rule has {len(text):,} characters, {MAX_RULE_CHARS:,} are allowed",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid_at(text, error.start, "half of a surrogate pair is no character") from None


def _explained(text: str, error: str) -> InvalidRuleError:
    """The library's first error in an operator's words."""
    placed = _PLACED.match(error)
    if placed is None:
        deep = "recursion" in error  # The library gives no place then.
        reason = "the rule nests too deep; use fewer brackets, dots and operators in a row"
        return _invalid_at(text, _deepest(text) if deep else 0, reason if deep else error)
    line, column, reason = placed.groups()
    undeclared = _UNDECLARED.search(reason)
    if undeclared is not None:
        known = ", ".join(f"{name}()" for name in (*FUNCTIONS, *MACROS))
        reason = f"there is no {undeclared[1]} here; there are {' and '.join(VARIABLES)}, {known}"
    reason = _VALUE_EXPECTED.sub("where a value is expected", reason)
    reason = reason.removesuffix(" [INVALID_ARGUMENT]")
    reason = reason.replace("'<EOF>'", "the end").replace("<EOF>", "the end")
    return InvalidRuleError(int(line), int(column), reason)


def _deepest(text: str) -> int:
    """Where most brackets are open; those within quotes count too, which may mislead."""
    depth = deepest = offset = 0
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
            if depth > deepest:
                deepest, offset = depth, index
        elif character in ")]}":
            depth -= 1
    return offset


def _invalid_at(text: str, offset: int, reason: str) -> InvalidRuleError:
    before = text[:offset]
    line = before.count("\n") + 1
    return InvalidRuleError(line, offset - (before.rfind("\n") + 1) + 1, reason)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_NOTE_CHARS else text[: MAX_NOTE_CHARS - 1] + "…"
