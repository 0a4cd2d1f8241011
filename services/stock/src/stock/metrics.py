"""Stock's own metrics. No label carries an id."""

from prometheus_client import Counter

REFUSALS = Counter("stock_errors_total", "Reservations refused", ["reason"])
CONFLICTS = Counter(
    "stock_conflicts_total", "Chunks folded again because a product had changed meanwhile"
)
LEVELS = Counter("stock_levels_published_total", "Levels sent to the feed")
