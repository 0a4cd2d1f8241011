"""The invariants, checked: over every schema by SQL, and over the topics.

    report = await audit(dsn_of_operator)
    print(report.table())
    if not report.ok: ...

`invariants` runs the query files of the services and this package's own (`sql/invariants.sql`);
a query returns the rows that violate it, so none means that it holds. `topics` reads the broker:
lag, lost messages, outcomes. Some invariants hold at every moment, others once the system has come
to rest; each query says which. Nothing is written anywhere, so it may run beside production.
"""

from shared.audit.invariants import SERVICES, InvariantFileError, Source, audit
from shared.audit.report import Check, Moment, Report
from shared.audit.topics import audit_topics

__all__ = [
    "SERVICES",
    "Check",
    "InvariantFileError",
    "Moment",
    "Report",
    "Source",
    "audit",
    "audit_topics",
]
