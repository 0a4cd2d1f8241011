"""What a row of the outbox looks like on the topic: CloudEvents in binary mode."""

from __future__ import annotations

from datetime import UTC, datetime

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.stock import StockCommitted
from shared.kafka.publisher import partition_of
from shared.pipeline.messages import Outgoing
from shared.pipeline.outbox import Chunk, Row

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_a_record_has_the_headers_of_cloud_events() -> None:
    reply = StockCommitted(command_id="o-1:commit:do", order_id="o-1")
    row = Row.of(Outgoing("stock.replies.v1", "o-1", reply, "o-1:commit:do", TRACE))
    at = datetime(2026, 1, 31, 9, 0, 0, 7_999, tzinfo=UTC)
    (record,) = Chunk(1, at, [row]).records("stock")
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"o-1:commit:do",
        "ce_type": b"StockCommitted",
        "ce_source": b"stock",
        "ce_time": b"2026-01-31T09:00:00.007Z",
        "ce_subject": b"o-1",
        "content-type": b"application/json",
        "traceparent": TRACE.encode(),
    }
    assert (record.topic, record.key, record.value) == (
        "stock.replies.v1", b"o-1", reply.to_bytes(),
    )  # fmt: skip
    assert record.timestamp_ms == int(at.timestamp() * 1000)


@given(st.binary(min_size=1, max_size=40), st.integers(1, 64))
def test_a_key_lies_where_every_other_client_would_put_it(key: bytes, partitions: int) -> None:
    everyone = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everyone, everyone)
