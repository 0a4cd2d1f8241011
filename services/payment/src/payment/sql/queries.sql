-- name: lock_payments
-- The payments of a chunk's orders, locked in key order: first of all locks.
SELECT order_id, state, user_id, amount, currency, method, points, refusal,
       fingerprint_version, fingerprint
FROM payment
WHERE order_id = ANY (:order_ids::text[])
ORDER BY order_id
FOR UPDATE;

-- name: lock_wallets
-- The wallets that a chunk may move, locked in key order. UPDATE … FROM unnest alone would lock
-- them in the order of its plan, and two chunks could wait for each other.
SELECT user_id, currency, balance
FROM wallet
WHERE user_id = ANY (:user_ids::text[])
ORDER BY user_id
FOR UPDATE;

-- name: insert_payments!
-- A row that is there already belongs to a faster instance: the caller counts and starts over.
INSERT INTO payment (order_id, state, user_id, amount, currency, method, points, captured,
                     refunded, refusal, fingerprint_version, fingerprint)
SELECT *
FROM unnest(:order_ids::text[], :states::text[], :user_ids::text[], :amounts::bigint[],
            :currencies::text[], :methods::text[], :points::bigint[], :captureds::bigint[],
            :refundeds::bigint[], :refusals::text[], :fingerprint_versions::smallint[],
            :fingerprints::bytea[])
ON CONFLICT DO NOTHING;

-- name: update_payments!
-- Rows are locked by now. A refund is all that changes a payment after its verdict.
UPDATE payment SET state = row.state, refunded = row.refunded
FROM unnest(:order_ids::text[], :states::text[], :refundeds::bigint[])
     AS row (order_id, state, refunded)
WHERE payment.order_id = row.order_id;

-- name: insert_wallets!
-- First top-ups; a conflict is another instance's top-up of the same user.
INSERT INTO wallet (user_id, currency, balance)
SELECT * FROM unnest(:user_ids::text[], :currencies::text[], :balances::bigint[])
ON CONFLICT DO NOTHING;

-- name: update_balances!
-- The balances of wallets that are locked by now.
UPDATE wallet SET balance = row.balance
FROM unnest(:user_ids::text[], :balances::bigint[]) AS row (user_id, balance)
WHERE wallet.user_id = row.user_id;

-- name: insert_entries!
-- The primary key is the last defence: a transaction happens once.
INSERT INTO ledger_entry (transaction_id, account, amount, currency)
SELECT * FROM unnest(:transaction_ids::text[], :accounts::text[], :amounts::bigint[],
                     :currencies::text[]);
