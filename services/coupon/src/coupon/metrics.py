"""Coupon's own metrics. No label carries an id."""

from prometheus_client import Counter, Gauge, Histogram

REFUSALS = Counter("coupon_errors_total", "Holds, uses and requests refused", ["reason"])
ISSUED = Counter("coupons_issued_total", "Coupons given out")
ENTERED = Counter("lottery_entries_total", "Entries in lotteries")
ANSWERS = Counter(
    "coupon_gate_answers_total", "Requests for coupons, by what the gates said", ["answer"]
)
REBUILDS = Counter(
    "coupon_gate_rebuilds_total", "Gates written anew from their campaigns, by cause", ["cause"]
)
AWAY = Gauge("coupon_gates_away", "1 while Redis does not answer for the gates and locks")
RETURNS_DROPPED = Counter(
    "coupon_gate_returns_dropped_total", "Admissions that no gate was given back; it is rebuilt"
)
DRIFT = Counter(
    "coupon_gate_drift_coupons_total", "Coupons by which gates that stood still were wrong"
)
WAITED = Counter(
    "coupon_waits_total",
    "Chunks with requests that were turned away while coupons were left: asked again",
)
LOCK_SECONDS = Histogram(
    "coupon_lock_seconds",
    "From asking for the locks of a chunk's campaigns to having them",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
LOCKS_LOST = Counter(
    "coupon_locks_lost_total", "Locks of campaigns that couldn't be renewed while they were held"
)
LOCKS_OVERRULED = Counter(
    "coupon_locks_overruled_total",
    "Chunks that waited for a lock for two leases, and went on with their fencing token alone",
)
CAMPAIGNS = Gauge("coupon_campaigns", "Campaigns, by their life", ["life"])
