"""Our book of the gateway's money beside the gateway's own, line by line.

    found = await reconcile(connection_of_operator, book)

Ours is `payment.gateway_call`, a row for each charge and each refund that was ever asked for, under
its idempotency key. Theirs is read over HTTP (`gateway`). `lines` holds both in a temporary file,
so that a million lines fit; `rules` says, purely, what two lines under one key say of each other;
`comparing` looks once more at each difference, since lines are written while the books are read;
`describing` has the words. Nothing is written anywhere.
"""

from shared.reconciliation.comparing import Reconciliation, reconcile
from shared.reconciliation.gateway import GatewayAccess, GatewayBook, GatewayError
from shared.reconciliation.rules import Finding, Verdict

__all__ = [
    "Finding",
    "GatewayAccess",
    "GatewayBook",
    "GatewayError",
    "Reconciliation",
    "Verdict",
    "reconcile",
]
