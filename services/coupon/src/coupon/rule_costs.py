"""What a rule looks at, and what it costs at most. Pure.

CEL always comes to an end, but not always soon: a loop in a loop looks at 2,500 pairs, and lists
and texts that are joined grow. So a rule is surveyed before it is taken: its tree is walked with
the largest facts in mind that the contract allows, and each operation is counted as often as it
may run. The count errs on the high side only: it knows no shortcut of `&&`, and each fact is taken
for a full list of long texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, assert_never

from coupon.rule_trees import Call, Collection, Constant, Loop, Name, Selection
from shared.contracts.facts import MAX_FACT_CHARS, MAX_FACTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coupon.rule_trees import Node

MAX_STEPS: Final = 50_000
"""Operations of one evaluation, each 10 to 80 ns: together 4 ms at most. A turn of a loop takes
more than 5, so that the library's own limit of 10,000 turns is never met."""
MAX_LOOPS: Final = 2
"""Loops within each other: all, exists, exists_one, filter, map."""
VARIABLES: Final = ("order", "user")

_STEPS_PER_ELEMENT: Final = 8
"""To hand one scalar of the facts over to the evaluation."""
_CHARS_PER_STEP: Final = 256
"""That are compared or copied in a step."""
_CHARS_COUNTED_PER_STEP: Final = 16
"""That are looked at one by one in a step."""
_CHARS_SEARCHED_PER_STEP: Final = 16
"""Of each of two texts, one of which is sought in the other."""

Fact: TypeAlias = tuple[str, str]
"""The variable and the name in it, as in `user.tier`."""


class UnfitRuleError(ValueError):
    """The rule is CEL and yet not taken; `offset` characters of it stand before the place."""

    def __init__(self, reason: str, offset: int) -> None:
        """Say why, and where."""
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Survey:
    """What a rule needs.

    `read` are the facts whose value it takes, `tested` those that it asks for with has(), `whole`
    the variables that it goes through as a whole. `steps` is the cost at most.
    """

    read: frozenset[Fact]
    tested: frozenset[Fact]
    whole: frozenset[str]
    steps: int


def survey(root: Node) -> Survey:
    """Walk a rule's tree. Raises UnfitRuleError where it costs too much or names what it can't."""
    walk = _Walk()
    bound = walk.measure(root, {})
    elements = len(walk.read | walk.tested) * MAX_FACTS + len(walk.whole) * MAX_FACTS**2
    steps = bound.steps + elements * _STEPS_PER_ELEMENT
    _check(steps, root.offset)
    return Survey(frozenset(walk.read), frozenset(walk.tested), frozenset(walk.whole), steps)


class _Bound(NamedTuple):
    """How dear and how large a value is at most.

    `chars` is the length of the longest text in it; `counts` are the elements at each level of
    its lists and maps, from the outermost, none for a scalar.
    """

    steps: int
    chars: int = 0
    counts: tuple[int, ...] = ()

    @property
    def pieces(self) -> int:
        """Scalars in it, at least 1."""
        return prod(max(count, 1) for count in self.counts)

    def element(self, steps: int) -> _Bound:
        """What it holds, for that many steps."""
        return _Bound(steps, self.chars, self.counts[1:])


_Scope: TypeAlias = "Mapping[str, _Bound]"
"""The variables of the loops around."""
_FACTS: Final = _Bound(1, MAX_FACT_CHARS, (MAX_FACTS, MAX_FACTS))


@dataclass(slots=True)
class _Walk:
    """One way through a tree."""

    read: set[Fact] = field(default_factory=set)
    tested: set[Fact] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)
    loops: int = 0

    def measure(self, node: Node, scope: _Scope) -> _Bound:
        """The bound of a node's value, and of all that it takes to come to it."""
        match node:
            case Constant():
                bound = _Bound(1, node.size)
            case Name():
                bound = self._name(node, scope)
            case Selection():
                bound = self._selection(node, scope)
            case Call():
                bound = self._call(node, scope)
            case Collection():
                bound = self._collection(node, scope)
            case Loop():
                bound = self._loop(node, scope)
            case _:
                assert_never(node)
        _check(bound.steps, node.offset)
        return bound

    def _name(self, node: Name, scope: _Scope) -> _Bound:
        if node.name in VARIABLES:
            self.whole.add(node.name)
            return _FACTS
        return scope.get(node.name, _Bound(0))._replace(steps=1)

    def _selection(self, node: Selection, scope: _Scope) -> _Bound:
        facts = self.tested if node.tests else self.read
        if isinstance(node.operand, Name) and node.operand.name in VARIABLES:
            facts.add((node.operand.name, node.field))
            value = _FACTS
        else:
            value = self.measure(node.operand, scope)
        return _Bound(value.steps + 1) if node.tests else value.element(value.steps + 1)

    def _call(self, node: Call, scope: _Scope) -> _Bound:
        match node.operands:
            case (Name(name=variable), Constant(text=str(fact))) if (
                node.function == "_[_]" and variable in VARIABLES
            ):
                self.read.add((variable, fact))
                return _FACTS.element(2)
        values = [self.measure(operand, scope) for operand in node.operands]
        steps = sum(value.steps for value in values) + _work(node.function, values)
        match node.function:
            case "_+_":
                return _joined(values, steps)
            case "_?_:_":
                return _Bound(steps, max(value.chars for value in values), _largest(values[1:]))
            case "_[_]":
                return values[0].element(steps)
            case _:
                return _Bound(steps)

    def _collection(self, node: Collection, scope: _Scope) -> _Bound:
        if node.message:
            raise UnfitRuleError(f"a rule can't make a {node.message}", node.offset)
        parts = [self.measure(part, scope) for part in (*node.keys, *node.values)]
        steps = sum(part.steps + 1 for part in parts) + 1
        chars = max((part.chars for part in parts), default=0)
        return _Bound(steps, chars, (len(node.values), *_largest(parts)))

    def _loop(self, node: Loop, scope: _Scope) -> _Bound:
        if node.element in VARIABLES:
            raise UnfitRuleError(f"an element can't be called {node.element}", node.offset)
        if self.loops == MAX_LOOPS:
            raise UnfitRuleError(
                f"all, exists, exists_one, filter and map may stand {MAX_LOOPS} deep in each other,"
                f" this is one more",
                node.offset,
            )
        over = self.measure(node.over, scope)
        start = self.measure(node.start, scope)
        turns = over.counts[0] if over.counts else 0
        self.loops += 1
        whole = isinstance(node.over, Name) and node.over.name in VARIABLES
        element = _Bound(0, MAX_FACT_CHARS) if whole else over.element(0)  # a map gives its keys
        scope = {**scope, node.element: element}
        # A turn adds one element to a list at most: there is no macro that does more.
        once = self.measure(node.step, {**scope, node.total: start})
        total = _Bound(0, once.chars, (turns, *once.counts[1:]) if start.counts else ())
        scope = {**scope, node.total: total}
        turn = self.measure(node.condition, scope).steps + self.measure(node.step, scope).steps
        self.loops -= 1
        result = self.measure(node.result, scope)
        steps = over.steps + start.steps + turns * (turn + 1) + result.steps
        return result._replace(steps=steps)


def _check(steps: int, offset: int) -> None:
    if steps > MAX_STEPS:
        raise UnfitRuleError(
            f"this may take {steps:,} steps where lists of facts are full, {MAX_STEPS:,} are"
            " allowed; look at fewer lists, or nest less",
            offset,
        )


def _work(function: str, values: Sequence[_Bound]) -> int:
    """Steps of a function beside those of its operands."""
    chars = [value.chars for value in values]
    pieces = sum(value.pieces for value in values)
    texts = 1 + max(chars) // _CHARS_PER_STEP
    match function:
        case "_==_" | "_!=_" | "@in":
            return pieces * texts
        case "_+_":  # it copies a list but not what is in it
            return pieces + texts
        case "size":
            return 1 + chars[0] // _CHARS_COUNTED_PER_STEP
        case "contains":  # it may compare the one text at each place of the other
            return prod(1 + size // _CHARS_SEARCHED_PER_STEP for size in chars)
        case _:
            return texts


def _joined(values: Sequence[_Bound], steps: int) -> _Bound:
    """A text, a list or a sum of these."""
    chars = sum(value.chars for value in values)
    lists = [value for value in values if value.counts]
    if not lists:
        return _Bound(steps, chars)
    count = sum(value.counts[0] for value in lists)
    return _Bound(steps, chars, (count, *_largest(value.element(0) for value in lists)))


def _largest(values: Iterable[_Bound]) -> tuple[int, ...]:
    """The most elements at each level of any of these."""
    counts = [value.counts for value in values]
    return tuple(max(level) for level in zip_longest(*counts, fillvalue=0))
