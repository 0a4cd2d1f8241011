"""The orchestrator's own metrics. No label carries an id."""

from prometheus_client import Counter, Gauge, Histogram

ORDERS = Counter("orders_total", "Orders that got their outcome", ["status"])
ORDER_SECONDS = Histogram(
    "order_duration_seconds",
    "From the acceptance of an order to its outcome",
    ["status"],
    buckets=(0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900),
)
IGNORED = Counter("saga_events_ignored_total", "Events that changed nothing", ["reason"])
REFUSED = Counter("order_commands_refused_total", "Commands of users refused", ["reason"])
SENT_AGAIN = Counter("saga_commands_sent_again_total", "Timers that sent commands again")
ACTIVE = Gauge("saga_active", "Sagas under way", ["state"])
STUCK = Gauge("saga_stuck", "Sagas that need an operator")
ADMISSION_ROOM = Gauge("saga_admission_room", "How many more sagas may start")
HORIZON_AGE = Gauge(
    "saga_read_horizon_age_seconds",
    "How far behind the clock messages are known to be read",
    ["group"],
)
