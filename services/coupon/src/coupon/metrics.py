"""Coupon's own metrics. No label carries an id."""

from prometheus_client import Counter

REFUSALS = Counter("coupon_errors_total", "Holds, uses and requests refused", ["reason"])
ISSUED = Counter("coupons_issued_total", "Coupons given out")
