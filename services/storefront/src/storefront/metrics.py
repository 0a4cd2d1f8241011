"""What the storefront counts. No label carries an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("http_requests_total", "Requests by route and status", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "http_request_seconds",
    "From the end of a request's headers to the beginning of its answer",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("storefront_in_flight", "Orders, payments and the like under way")
TURNED_AWAY = Counter("storefront_turned_away_total", "Requests refused under overload", ["why"])
HEARD = Counter("storefront_heard_total", "Events that somebody waited for", ["topic", "type"])
LATE = Counter("storefront_late_total", "Questions that were answered 202", ["question"])
UNBOUNDED = Counter(
    "storefront_unpaid_unbounded_total", "Orders taken while Redis could not count the unpaid ones"
)
STREAMS = Gauge("storefront_streams", "Open streams of server-sent events", ["what"])
CACHE_HITS = Counter(
    "storefront_cache_hits_total", "What was asked for and found current", ["what", "level"]
)
CACHE_MISSES = Counter(
    "storefront_cache_misses_total", "What was asked for and not found", ["what", "level"]
)
CACHE_LOADS = Counter("storefront_cache_loads_total", "What was asked of stock", ["what"])
CACHE_STALE = Counter(
    "storefront_cache_stale_total",
    "Old answers, while stock was away",
    ["what"],
)
