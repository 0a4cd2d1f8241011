"""Payment's tables: one typed method for each named query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from payment.calls import Call, key_of
from payment.records import Charge, Payment, Wallet
from shared.contracts.order_parts import PaymentMethod
from shared.contracts.payment import CallKind, CallState, PaymentRefusal, PaymentState
from shared.database import Queries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    import asyncpg

    from payment.books import Books
    from payment.ledger import Entry
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
        return [Wallet(*row) for row in rows]

    async def lock_calls(self, order_ids: Iterable[str]) -> list[Call]:
        """What was asked of the gateway for these orders, locked in key order."""
        keys = {key_of(kind, order_id) for order_id in order_ids for kind in CallKind}
        rows = await queries.lock_calls.rows(self._connection, keys=sorted(keys))
        return [_call(tuple(row)) for row in rows]

    async def read_clock(self) -> datetime:
        """Now, by the database's clock."""
        now: datetime = await queries.read_clock.value(self._connection)
        return now

    async def claim_calls(
        self, owner: str, lease_s: float, *, calls: int, retries: int, watches: int
    ) -> list[tuple[Call, bool]]:
        """Take the leases of at most `calls` that are due, of which `retries` may have been made
        before, and `watches` are only watched; each with whether its payment is still wanted."""
        rows = await queries.claim_calls.rows(
            self._connection,
            owner=owner,
            lease_s=lease_s,
            calls=calls,
            retries=retries,
            watches=watches,
        )
        return [(_call(tuple(row)[:-1]), row["is_wanted"]) for row in rows]

    async def close_calls(
        self, keys: Sequence[str], operator: str, note: str, at: datetime
    ) -> None:
        """Save who closes these locked calls, why and when. What is known of them is saved with all
        else, by one statement, in which no row may change twice."""
        await queries.close_calls.run(
            self._connection, keys=keys, operator=operator, note=note, at=at
        )

    async def remember_events(self, event_ids: Collection[str]) -> set[str]:
        """Those that weren't heard before."""
        rows = await queries.remember_events.rows(self._connection, event_ids=sorted(event_ids))
        return {row["event_id"] for row in rows}

    async def forget_events(self, keep_s: float, at_most: int) -> int:
        """Delete callbacks that are older; how many."""
        return await queries.forget_events.run(self._connection, keep_s=keep_s, events=at_most)

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
            captureds=[row.captured for row in payments],
            refundeds=[row.refunded for row in payments],
            refusals=[row.refusal for row in payments],
            lates=[row.is_late for row in payments],
        )

    def insert_calls(self, calls: Sequence[Call]) -> Write:
        """Saves calls that are to be made. Conflicts where another instance intends one of them."""
        return queries.insert_calls.write(
            len(calls),
            keys=[row.key for row in calls],
            order_ids=[row.order_id for row in calls],
            kinds=[row.kind for row in calls],
            states=[row.state for row in calls],
            user_ids=[row.user_id for row in calls],
            amounts=[row.amount for row in calls],
            currencies=[row.currency for row in calls],
            command_ids=[row.command_id for row in calls],
            traceparents=[row.traceparent for row in calls],
            references=[row.reference for row in calls],
            callback_urls=[row.callback_url for row in calls],
            owners=[row.owner for row in calls],
            attempts=[row.attempt for row in calls],
            sends=[row.sends for row in calls],
            next_ats=[row.next_at for row in calls],
        )

    def update_calls(self, calls: Sequence[Call]) -> Write:
        """Saves what is known of locked calls."""
        return queries.update_calls.write(
            len(calls),
            keys=[row.key for row in calls],
            states=[row.state for row in calls],
            references=[row.reference for row in calls],
            quarantines=[row.quarantine for row in calls],
            owners=[row.owner for row in calls],
            attempts=[row.attempt for row in calls],
            sends=[row.sends for row in calls],
            first_sent_ats=[row.first_sent_at for row in calls],
            expires_ats=[row.expires_at for row in calls],
            next_ats=[row.next_at for row in calls],
        )

    def insert_wallets(self, wallets: Sequence[Wallet]) -> Write:
        """Saves new wallets. Conflicts where another instance opened one of them."""
        return queries.insert_wallets.write(
            len(wallets),
            user_ids=[row.user_id for row in wallets],
            currencies=[row.currency for row in wallets],
            balances=[row.balance for row in wallets],
            points=[row.points for row in wallets],
        )

    def update_balances(self, wallets: Sequence[Wallet]) -> Write:
        """Saves the balances of locked wallets."""
        return queries.update_balances.write(
            len(wallets),
            user_ids=[row.user_id for row in wallets],
            balances=[row.balance for row in wallets],
            points=[row.points for row in wallets],
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


def saved(store: Store, books: Books) -> list[Write]:
    """All that decisions have changed."""
    writes: list[Write] = []
    if new_payments := books.new_payments:
        writes.append(store.insert_payments(new_payments))
    if changed_payments := books.changed_payments:
        writes.append(store.update_payments(changed_payments))
    if new_calls := books.new_calls:
        writes.append(store.insert_calls(new_calls))
    if changed_calls := books.changed_calls:
        writes.append(store.update_calls(changed_calls))
    if new_wallets := books.ledger.new_wallets:
        writes.append(store.insert_wallets(new_wallets))
    if changed_wallets := books.ledger.changed_wallets:
        writes.append(store.update_balances(changed_wallets))
    if books.ledger.entries:
        writes.append(store.insert_entries(books.ledger.entries))
    return writes


def _payment(row: asyncpg.Record) -> Payment:
    (
        order_id, state, user_id, amount, currency, method, points,
        refusal, fingerprint_version, fingerprint, captured, refunded, is_late,
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
        captured,
        refunded,
        is_late,
    )  # fmt: skip


def _call(columns: Sequence[Any]) -> Call:
    key, order_id, kind, state, *others = columns
    return Call(key, order_id, CallKind(kind), CallState(state), *others)
