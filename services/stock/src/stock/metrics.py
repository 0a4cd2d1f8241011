"""Stock's own metrics. No label carries an id."""

from prometheus_client import Counter, Gauge, Histogram

REFUSALS = Counter("stock_errors_total", "Reservations refused", ["reason"])
CONFLICTS = Counter(
    "stock_conflicts_total", "Chunks folded again because a product had changed meanwhile"
)
LOW_PRODUCTS = Gauge(
    "stock_low_products", "Products with LOW_STOCK_UNITS available or fewer; 0 where that is off"
)
LEVELS = Counter("stock_levels_published_total", "Levels sent to the feed")
LOCK_SECONDS = Histogram(
    "stock_lock_seconds",
    "From asking for the locks of a chunk's products to having them",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
ANSWERS = Counter(
    "stock_counter_answers_total", "Orders of hot products, by what the counters said", ["answer"]
)
REBUILDS = Counter(
    "stock_counter_rebuilds_total", "Counters written anew from their rows, by cause", ["cause"]
)
AWAY = Gauge("stock_counters_away", "1 while Redis does not answer for the counters")
RETURNS_DROPPED = Counter(
    "stock_counter_returns_dropped_total", "What no counter was given back; they are rebuilt"
)
DRIFT = Counter(
    "stock_counter_drift_units_total", "Units by which counters that stood still were wrong"
)
SWITCHES = Counter(
    "stock_auto_switches_total", "Products that chose another strategy for themselves", ["to"]
)
