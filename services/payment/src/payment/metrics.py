"""Payment's own metrics. No label carries an id."""

from prometheus_client import Counter

REFUSALS = Counter("payment_errors_total", "Payments refused", ["reason"])
