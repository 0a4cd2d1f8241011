"""What the auditor tells of itself. No label carries an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

VIOLATIONS = Gauge(
    "invariant_violations",
    "Violations that the last pass found, up to 100 a check; a check that could not be made keeps"
    " its last number",
    ["invariant"],
)
UNCHECKED = Gauge("audit_unchecked", "Checks that the last pass could not make")
FINISHED = Gauge("audit_last_pass_timestamp_seconds", "When a pass was last finished")
DURATION = Gauge("audit_last_pass_duration_seconds", "How long that pass took")
ROUND = Gauge(
    "audit_last_round_timestamp_seconds",
    "When all orders had been looked at once more, by every check; 0: not yet",
)
FAILURES = Counter("audit_failures_total", "Passes that ended without a result")
