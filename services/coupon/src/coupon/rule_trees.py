"""The tree of a compiled rule, as CEL's compilers publish it. Pure.

That is a `cel.expr.CheckedExpr` in protobuf's encoding, within an `Any`. Its macros (`all`, `map`
and so on) are expanded into loops. Only what is needed to judge a rule is read; nothing here
evaluates it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `text` is its text, where it is one. `size` is the length of text or bytes."""

    offset: int
    text: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, of the rule or of a loop around."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Selection:
    """`operand.field`, or where it `tests`, `has(operand.field)`."""

    offset: int
    operand: Node
    field: str
    tests: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator, such as `_+_` and `size`; a method's object is the first operand."""

    offset: int
    function: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A literal list, map, or message of the type `message`; a list has no keys."""

    offset: int
    message: str
    keys: tuple[Node, ...]
    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a macro does with each `element` of `over`.

    `total` begins as `start`; each turn looks at `condition`, and `step` is the next total.
    """

    offset: int
    element: str
    total: str
    over: Node
    start: Node
    condition: Node
    step: Node
    result: Node


Node: TypeAlias = Constant | Name | Selection | Call | Collection | Loop
"""`offset` is how many characters of the rule stand before the node's place."""


def read_tree(encoded: bytes) -> Node:
    """The outermost node of a rule that the library serialized."""
    checked = _Message(_Message(encoded).bytes(_ANY_VALUE))
    entries = checked.one(_SOURCE).all(_POSITIONS)
    offsets = {entry.number(_KEY): entry.number(_VALUE) for entry in entries}
    return _node(checked.one(_ROOT), offsets)


# Numbers of fields, by the published definitions of `google.protobuf.Any` and `cel.expr`.
_ANY_VALUE: Final = 2
_ROOT, _SOURCE, _POSITIONS, _KEY, _VALUE = 4, 5, 4, 1, 2
_ID, _CONSTANT, _NAME, _SELECTION, _CALL, _LIST, _STRUCT, _LOOP = range(2, 10)
_TEXT, _BYTES = 6, 7


def _node(node: _Message, offsets: dict[int, int]) -> Node:
    offset = offsets.get(node.number(_ID), 0)

    def nodes(parts: list[_Message]) -> tuple[Node, ...]:
        return tuple(_node(part, offsets) for part in parts)

    if _CONSTANT in node:
        constant = node.one(_CONSTANT)
        text = constant.text(_TEXT) if _TEXT in constant else None
        size = len(constant.bytes(_BYTES)) if text is None else len(text)
        return Constant(offset, text, size)
    if _NAME in node:
        return Name(offset, node.one(_NAME).text(1))
    if _SELECTION in node:
        selection = node.one(_SELECTION)
        (operand,) = nodes([selection.one(1)])
        return Selection(offset, operand, selection.text(2), bool(selection.number(3)))
    if _CALL in node:
        call = node.one(_CALL)
        return Call(offset, call.text(2), nodes([*call.all(1), *call.all(3)]))
    if _LIST in node:
        return Collection(offset, "", (), nodes(node.one(_LIST).all(1)))
    if _STRUCT in node:
        struct = node.one(_STRUCT)
        entries = struct.all(2)
        keys = nodes([entry.one(3) for entry in entries if 3 in entry])
        return Collection(offset, struct.text(1), keys, nodes([entry.one(4) for entry in entries]))
    if _LOOP in node:
        loop = node.one(_LOOP)
        over, start, condition, step, result = nodes([loop.one(k) for k in (2, 4, 5, 6, 7)])
        return Loop(offset, loop.text(1), loop.text(3), over, start, condition, step, result)
    raise ValueError("a node of a kind that CEL doesn't have")


class _Message:
    """A message in protobuf's encoding: values by the numbers of their fields."""

    __slots__ = ("_fields",)

    def __init__(self, encoded: bytes) -> None:
        """Take it apart. Raises ValueError where it is none."""
        self._fields: dict[int, list[Any]] = {}
        at = 0
        while at < len(encoded):
            tag, at = _varint(encoded, at)
            value: int | bytes
            match tag & 7:
                case 0:
                    value, at = _varint(encoded, at)
                case 1:
                    value, at = encoded[at : at + 8], at + 8
                case 2:
                    size, at = _varint(encoded, at)
                    value, at = encoded[at : at + size], at + size
                case 5:
                    value, at = encoded[at : at + 4], at + 4
                case kind:
                    raise ValueError(f"protobuf has no encoding {kind}")
            self._fields.setdefault(tag >> 3, []).append(value)
        if at > len(encoded):
            raise ValueError("a message ends too early")

    def __contains__(self, field: int) -> bool:
        return field in self._fields

    def number(self, field: int) -> int:
        """An integer, 0 where it is left out."""
        value: int = self._fields.get(field, [0])[-1]
        return value

    def bytes(self, field: int) -> bytes:
        """Bytes, none where they are left out."""
        value: bytes = self._fields.get(field, [b""])[-1]
        return value

    def text(self, field: int) -> str:
        """Text, empty where it is left out."""
        return self.bytes(field).decode()

    def one(self, field: int) -> _Message:
        """A message, empty where it is left out."""
        return _Message(self.bytes(field))

    def all(self, field: int) -> list[_Message]:
        """Every message of a repeated field."""
        return [_Message(value) for value in self._fields.get(field, [])]


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    """An integer and where it ends: seven bits a byte, the lowest first."""
    value = shift = 0
    while at < len(encoded):
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("an integer ends too early")
