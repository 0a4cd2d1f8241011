"""Payment's tables: one typed method for each named query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from payment.domain import Charge, Payment, PaymentState, Wallet
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import PaymentRefusal
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import asyncpg

    from payment.domain import Entry
    from shared.database import Connection, Write

queries = Queries("payment", "sql/queries.sql")


class Store:
    """Loads and saves chunks on one connection, inside the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        """Work on `connection`."""
        self._connection = connection

    async def lock_payments(self, order_ids: Iterable[str]) -> list[Payment]:
        """The payments of these orders that are there, locked in key order."""
        rows = await queries.lock_payments.rows(self._connection, order_ids=sorted(set(order_ids)))
        return [_payment(row) for row in rows]

    async def lock_wallets(self, user_ids: Collection[str]) -> list[Wallet]:
        """The wallets of these users that are there, locked in key order."""
        rows = await queries.lock_wallets.rows(self._connection, user_ids=sorted(user_ids))
        return [Wallet(user_id, currency, balance) for user_id, currency, balance in rows]

    def insert_payments(self, payments: Sequence[Payment]) -> Write:
        """Saves decisions. Conflicts where another instance decided one of the orders."""
        charges = [row.charge for row in payments]
        return queries.insert_payments.write(
            len(payments),
            order_ids=[row.order_id for row in payments],
            states=[row.state for row in payments],
            user_ids=[charge and charge.user_id for charge in charges],
            amounts=[charge and charge.amount for charge in charges],
            currencies=[charge and charge.currency for charge in charges],
            methods=[charge and charge.method for charge in charges],
            points=[charge and charge.points for charge in charges],
            captureds=[row.captured for row in payments],
            refundeds=[row.refunded for row in payments],
            refusals=[row.refusal for row in payments],
            fingerprint_versions=[charge and charge.fingerprint_version for charge in charges],
            fingerprints=[charge and charge.fingerprint for charge in charges],
        )

    def update_payments(self, payments: Sequence[Payment]) -> Write:
        """Saves what became of locked payments."""
        return queries.update_payments.write(
            len(payments),
            order_ids=[row.order_id for row in payments],
            states=[row.state for row in payments],
            refundeds=[row.refunded for row in payments],
        )

    def insert_wallets(self, wallets: Sequence[Wallet]) -> Write:
        """Saves new wallets. Conflicts where another instance opened one of them."""
        return queries.insert_wallets.write(
            len(wallets),
            user_ids=[row.user_id for row in wallets],
            currencies=[row.currency for row in wallets],
            balances=[row.balance for row in wallets],
        )

    def update_balances(self, wallets: Sequence[Wallet]) -> Write:
        """Saves the balances of locked wallets."""
        return queries.update_balances.write(
            len(wallets),
            user_ids=[row.user_id for row in wallets],
            balances=[row.balance for row in wallets],
        )

    def insert_entries(self, entries: Sequence[Entry]) -> Write:
        """Writes entries of the ledger."""
        return queries.insert_entries.write(
            len(entries),
            transaction_ids=[row.transaction_id for row in entries],
            accounts=[row.account for row in entries],
            amounts=[row.amount for row in entries],
            currencies=[row.currency for row in entries],
        )


def _payment(row: asyncpg.Record) -> Payment:
    (
        order_id, state, user_id, amount, currency, method, points,
        refusal, fingerprint_version, fingerprint,
    ) = row  # fmt: skip
    if fingerprint is None:
        return Payment(order_id, PaymentState(state))
    return Payment(
        order_id,
        PaymentState(state),
        Charge(
            user_id, amount, currency, PaymentMethod(method), points,
            fingerprint_version, fingerprint,
        ),
        None if refusal is None else PaymentRefusal(refusal),
    )  # fmt: skip
