"""Payment's own metrics. No label carries an id."""

from prometheus_client import Counter, Enum, Gauge, Histogram

from payment.breaker import BreakerState

REFUSALS = Counter("payment_errors_total", "Payments refused", ["reason"])
CALLS = Counter(
    "payment_gateway_calls_total", "Requests to the gateway by answer", ["kind", "answer"]
)
CALL_SECONDS = Histogram(
    "payment_gateway_seconds",
    "How long the gateway takes to answer",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5),
)
BREAKER = Enum(
    "payment_gateway_breaker",
    "The circuit breaker before the gateway",
    states=[state.value for state in BreakerState],
)
CALLBACKS = Counter("payment_gateway_callbacks_total", "Callbacks of the gateway", ["outcome"])
LATE_CAPTURES = Counter(
    "payment_late_captures_total", "Captures that turned up after their order was given up"
)
QUARANTINED = Counter("payment_quarantined_total", "Calls that a person has to look at")
NEWS_RETRIES = Counter(
    "payment_news_retries_total", "Transactions over answers that were run again", ["cause"]
)
UNSETTLED = Counter("payment_news_dropped_total", "Answers that could not be settled")
OPEN_CALLS = Gauge("payment_gateway_open_calls", "Calls without an outcome", ["state"])
OLDEST_OPEN = Gauge(
    "payment_gateway_oldest_open_seconds", "Age of the oldest call that isn't settled"
)
WATCH_OVERDUE = Gauge(
    "payment_gateway_watch_overdue_seconds",
    "By how much a watched call is asked for later than RECONCILE_INTERVAL_S says",
)
OUTCOMES = Counter("payment_outcomes_total", "Repeated charges answered from Redis")
OUTCOMES_AWAY = Gauge("payment_outcomes_away", "1 while Redis keeps no outcomes")
OUTCOMES_DROPPED = Counter("payment_outcomes_dropped_total", "Outcomes that Redis did not keep")
