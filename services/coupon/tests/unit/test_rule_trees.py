"""The tree of a compiled rule is read as its compiler wrote it."""

from __future__ import annotations

from coupon.rule_trees import Call, Collection, Constant, Loop, Name, Node, Selection, read_tree
from coupon.rules import _environment


def tree(text: str) -> Node:
    return read_tree(_environment().compile(text).serialize())


def test_a_node_of_each_kind() -> None:
    assert tree("has(user.a) && 'é' in [order, b'ab']") == Call(
        12, "_&&_",
        (
            Selection(3, Name(4, "user"), "a", tests=True),
            Call(
                19, "@in",
                (
                    Constant(15, "é", 1),
                    Collection(22, "", (), (Name(23, "order"), Constant(30, None, 2))),
                ),
            ),
        ),
    )  # fmt: skip


def test_a_map_has_keys_and_values() -> None:
    assert tree("{'k': -1}") == Collection(
        0, "", (Constant(1, "k", 1),), (Constant(6, None, 0),)
    )  # fmt: skip


def test_a_macro_is_a_loop() -> None:
    loop = tree("user.l.\n  exists(x, x)")
    assert isinstance(loop, Loop)
    assert (loop.offset, loop.element) == (16, "x")
    assert loop.over == Selection(4, Name(0, "user"), "l", tests=False)
    assert loop.start == Constant(16, None, 0)
    assert loop.step == Call(16, "_||_", (Name(16, loop.total), Name(20, "x")))
    assert loop.result == Name(16, loop.total)


def test_a_method_has_its_object_as_first_operand() -> None:
    assert tree("'ab'.contains(user.a)") == Call(
        13, "contains", (Constant(0, "ab", 2), Selection(18, Name(14, "user"), "a", tests=False))
    )
