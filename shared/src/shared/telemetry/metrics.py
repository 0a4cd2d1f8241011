"""The metrics that every service has. No label carries an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

MESSAGES = Counter(
    "pipeline_messages_total", "Messages whose chunk was committed", ["group", "type"]
)
CHUNK_SECONDS = Histogram(
    "pipeline_chunk_seconds",
    "From the arrival of a chunk to its commit",
    ["group"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
CHUNK_MESSAGES = Histogram(
    "pipeline_chunk_messages",
    "Messages in one chunk",
    ["group"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
RETRIES = Counter(
    "pipeline_retries_total",
    "Chunks run again for a fault of the infrastructure",
    ["group", "cause"],
)
HALVINGS = Counter(
    "pipeline_halvings_total", "Chunks halved to find the message at fault", ["group"]
)
DEAD_LETTERS = Counter("dlq_messages_total", "Messages dead-lettered", ["group", "reason"])
DUPLICATES = Counter("inbox_duplicates_total", "Messages that the inbox knew", ["group"])
SKIPPED = Counter(
    "pipeline_skipped_total", "Messages of an unknown type on a topic of events", ["group"]
)
KEY_MISMATCHES = Counter(
    "kafka_key_mismatches_total", "Messages whose Kafka key is not the body's own", ["group"]
)

OUTBOX_PENDING = Gauge("outbox_pending", "Chunks in the outbox that are not published, up to 1,000")
OUTBOX_OLDEST_AGE = Gauge(
    "outbox_oldest_age_seconds", "Age of the oldest chunk that is not published"
)
RELAY_FAILURES = Counter("relay_failures_total", "Publishing attempts that failed", ["cause"])
RELAY_OVERFLOWS = Counter(
    "relay_overflows_total", "Chunks left to the sweeper because the relay's memory was full"
)
RELAY_REBUILDS = Counter("relay_producer_rebuilds_total", "Producers replaced after an error")
SWEPT = Counter("outbox_swept_total", "Chunks published by the sweeper", ["whose"])

LAG = Gauge("consumer_lag_records", "Messages not yet consumed", ["group", "topic", "partition"])
PROGRESS = Gauge(
    "consumer_last_progress_timestamp_seconds", "When a chunk was last committed", ["group"]
)
COMMIT_FAILURES = Counter("offset_commit_failures_total", "Offset commits that failed", ["group"])
LOOP_FAILURES = Counter(
    "background_failures_total", "Passes of a background loop that failed", ["loop"]
)

CACHE_HIT_RATE = Gauge(
    "cache_hit_rate", "Keys that Redis found, of all that were looked up since it started"
)

CUT_OFF = Counter(
    "http_cut_off_total", "Connections that were cut off, or turned away as one too many", ["why"]
)
