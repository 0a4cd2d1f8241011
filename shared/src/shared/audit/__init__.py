"""The invariants, checked: over every schema by SQL, and over the topics.

    report = await audit(dsn_of_operator)
    print(report.table())
    if not report.ok: ...

`invariants` runs the query files of the services and this package's own (`sql/invariants.sql`);
a query returns the rows that violate it, so none means that it holds. `topics` reads the broker:
lag, lost messages, outcomes. `counters` and `gateway` hold Redis and the payment gateway's book
against our rows. `catalogue` has the ten invariants as sentences. Some invariants hold
at every moment, others once the system has come to rest; each query says which. Nothing is
written anywhere, so it may run beside production; `check_pass` is for running there all the time.
"""

from shared.audit.catalogue import INVARIANTS, RUNBOOK
from shared.audit.invariants import (
    SERVICES,
    InvariantFileError,
    Orders,
    Source,
    audit,
    check_pass,
)
from shared.audit.report import Check, Moment, Report
from shared.audit.topics import audit_topics

__all__ = [
    "INVARIANTS",
    "RUNBOOK",
    "SERVICES",
    "Check",
    "InvariantFileError",
    "Moment",
    "Orders",
    "Report",
    "Source",
    "audit",
    "audit_topics",
    "check_pass",
]
