"""One trace an order: contexts go on, and spans end up below the message that caused them."""

from __future__ import annotations

import re

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.telemetry.tracing import Tracing

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + "0"
WELL_FORMED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    return Tracing("stock", "stock-0", processors=[SimpleSpanProcessor(exporter)])


def test_a_context_that_came_goes_on(tracing: Tracing) -> None:
    assert tracing.context_of(SAMPLED.encode()) == SAMPLED


@pytest.mark.parametrize(
    "header",
    [None, b"", b"junk", SAMPLED.upper().encode(), SAMPLED.encode() + b"-more",
     b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
     b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01"],
)  # fmt: skip
def test_a_trace_starts_where_none_came(tracing: Tracing, header: bytes | None) -> None:
    started = {tracing.context_of(header) for _ in range(5)}
    assert len(started) == 5
    assert all(WELL_FORMED.fullmatch(context) for context in started)


@pytest.mark.parametrize(("ratio", "flag"), [(0.0, "00"), (1.0, "01")])
def test_what_starts_here_is_sampled_by_the_ratio(ratio: float, flag: str) -> None:
    tracing = Tracing("stock", "stock-0", sample_ratio=ratio, processors=())
    assert {tracing.new_context()[-2:] for _ in range(50)} == {flag}


def test_each_sampled_message_has_a_span_of_its_own_in_its_own_trace(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    other = SAMPLED.replace("0af7", "1bf8")
    contexts_in = (SAMPLED, UNSAMPLED, other)
    parents: list[tuple[str, str, dict[str, str]]] = [
        (context, "process ReserveStock", {}) for context in contexts_in
    ]
    with tracing.spans(parents) as contexts:
        first, unsampled, third = contexts
    assert unsampled == UNSAMPLED
    spans = exporter.get_finished_spans()
    assert len(spans) == 2
    for span, parent, context in zip(spans, (SAMPLED, other), (first, third), strict=True):
        assert span.context is not None
        assert span.parent is not None
        _, trace_id, span_id, _ = parent.split("-")
        assert f"{span.context.trace_id:032x}" == trace_id
        assert f"{span.parent.span_id:016x}" == span_id
        assert context == f"00-{trace_id}-{span.context.span_id:016x}-01"


def test_spans_end_with_the_error_of_their_block(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(OSError, match="gone"), tracing.spans([(SAMPLED, "process", {})]):
        raise OSError("gone")
    (span,) = exporter.get_finished_spans()
    assert span.end_time is not None
    assert [event.name for event in span.events] == ["exception"]


def test_nothing_is_recorded_where_nobody_listens() -> None:
    tracing = Tracing("stock", "stock-0", processors=())
    assert not tracing.is_recorded(SAMPLED)
    with tracing.spans([(SAMPLED, "process", {})]) as contexts:
        assert contexts == [SAMPLED]
