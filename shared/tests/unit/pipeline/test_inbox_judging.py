"""New, duplicate or misused: what the inbox says of each message of a chunk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.base import fingerprint, message_id
from shared.contracts.stock import CommitStock
from shared.pipeline.inbox import REUSED, _judge
from shared.pipeline.messages import Delivery, Received


def delivery(command_id: str, content: str, offset: int) -> Delivery:
    message = CommitStock(command_id=command_id, order_id=content)
    place = Received("stock.commands.v1", 0, offset, 0, None, message.to_bytes(), "")
    return Delivery(message, message_id(message), fingerprint(message), place, "")


ids = st.sampled_from(["c-1", "c-2", "c-3"])
contents = st.sampled_from(["o-1", "o-2"])


@given(st.lists(st.tuples(ids, contents), max_size=12), st.dictionaries(ids, contents))
def test_the_first_content_of_an_id_counts(
    chunk: list[tuple[str, str]], stored: dict[str, str]
) -> None:
    deliveries = [delivery(id_, content, at) for at, (id_, content) in enumerate(chunk)]
    counts = dict(stored)
    for id_, content in chunk:
        counts.setdefault(id_, content)
    handled, refused = _judge(
        deliveries,
        {("CommitStock", id_): delivery(id_, content, 0).fingerprint
         for id_, content in counts.items()},
        {("CommitStock", id_) for id_, _ in chunk if id_ not in stored},
    )  # fmt: skip

    at_rest = set(stored)
    expected, misused = [], []
    for at, (id_, content) in enumerate(chunk):
        if counts[id_] != content:
            misused.append(at)
        else:
            expected.append((at, id_ in at_rest))
            at_rest.add(id_)
    assert [(one.received.offset, one.duplicate) for one in handled] == expected
    assert [one.received.offset for one in refused] == misused
    assert all(one.reason == REUSED and one.message is not None for one in refused)


def test_a_refusal_says_what_to_do() -> None:
    _, (refusal,) = _judge(
        [delivery("c-1", "o-1", 0)],
        {("CommitStock", "c-1"): delivery("c-1", "o-2", 0).fingerprint},
        set(),
    )
    assert refusal.detail == (
        "CommitStock c-1 was sent before with other content; the first one counts."
        " Send the change under a new id."
    )
