"""One trace an order, through every service.

The context travels in the `traceparent` of messages and lies in outbox rows and in the saga's
row from the moment they are written, so that what is sent later, by a sweeper or a timer, lands
in the right trace. A message that isn't sampled costs no span: its context is passed on as text.
"""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from shared.telemetry.traceparents import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import SpanProcessor

DEFAULT_SAMPLE_RATIO = 0.01
"""Share of orders that are traced where the publisher didn't decide."""


class Tracing:
    """Starts traces where a message brings none, and opens spans where one is sampled."""

    def __init__(
        self,
        service: str,
        instance: str,
        *,
        sample_ratio: float = DEFAULT_SAMPLE_RATIO,
        processors: Sequence[SpanProcessor] | None = None,
    ) -> None:
        """Export over OTLP where `OTEL_EXPORTER_OTLP_ENDPOINT` is set; nothing fails without.

        `processors` replaces the exporter, for tests.
        """
        self._sample_ratio = sample_ratio
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service, "service.instance.id": instance})
        )
        if processors is None and _endpoint_is_set():
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
                OTLPSpanExporter,
            )

            processors = [BatchSpanProcessor(OTLPSpanExporter())]
        for processor in processors or ():
            self._provider.add_span_processor(processor)
        self._records = bool(processors)
        self._tracer = self._provider.get_tracer("shared.pipeline")

    def context_of(self, header: bytes | None) -> str:
        """The `traceparent` to go on with: the one that came, where it is valid, or a new one."""
        if header is not None and TRACEPARENT.fullmatch(header):
            return header.decode("ascii")
        return self.new_context()

    def new_context(self) -> str:
        """A `traceparent` of a trace that starts here, sampled by the set ratio."""
        flags = "01" if random.random() < self._sample_ratio else "00"
        return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-{flags}"

    def is_recorded(self, traceparent: str) -> bool:
        """Tell whether a span on this context would go anywhere."""
        return self._records and traceparent.endswith("01")

    @contextmanager
    def spans(self, parents: Sequence[tuple[str, str, dict[str, str]]]) -> Iterator[list[str]]:
        """Open a `process` span for each (traceparent, name, attributes) that is recorded.

        Yields the contexts to go on with, one for each parent: that of the new span, or the
        parent's own where nothing is recorded. The spans end with the block, with its error.
        """
        contexts: list[str] = []
        open_spans: list[trace.Span] = []
        for traceparent, name, attributes in parents:
            if not self.is_recorded(traceparent):
                contexts.append(traceparent)
                continue
            parent = trace.set_span_in_context(NonRecordingSpan(_span_context(traceparent)))
            span = self._tracer.start_span(
                name, context=parent, kind=SpanKind.CONSUMER, attributes=attributes
            )
            open_spans.append(span)
            contexts.append(_traceparent(span.get_span_context()))
        try:
            yield contexts
        except BaseException as error:
            for span in open_spans:
                span.record_exception(error)
            raise
        finally:
            for span in open_spans:
                span.end()

    def shutdown(self) -> None:
        """Send what is buffered and stop."""
        self._provider.shutdown()


def _endpoint_is_set() -> bool:
    return bool(
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def _span_context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
