-- name: lock_payments
-- The payments of a chunk's orders, locked in key order: first of all locks.
SELECT order_id, state, user_id, amount, currency, method, points, refusal,
       fingerprint_version, fingerprint, captured, refunded, is_late
FROM payment
WHERE order_id = ANY (:order_ids::text[])
ORDER BY order_id
FOR UPDATE;

-- name: lock_wallets
-- The wallets that a chunk may move, locked in key order. UPDATE … FROM unnest alone would lock
-- them in the order of its plan, and two chunks could wait for each other.
SELECT user_id, currency, balance, points
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
-- Rows are locked by now. What was asked for never changes.
UPDATE payment SET state = row.state, captured = row.captured, refunded = row.refunded,
                   refusal = row.refusal, is_late = row.is_late
FROM unnest(:order_ids::text[], :states::text[], :captureds::bigint[], :refundeds::bigint[],
            :refusals::text[], :lates::boolean[])
     AS row (order_id, state, captured, refunded, refusal, is_late)
WHERE payment.order_id = row.order_id;

-- name: insert_wallets!
-- First top-ups; a conflict is another instance's top-up of the same user.
INSERT INTO wallet (user_id, currency, balance, points)
SELECT * FROM unnest(:user_ids::text[], :currencies::text[], :balances::bigint[],
                     :points::bigint[])
ON CONFLICT DO NOTHING;

-- name: update_balances!
-- The balances of wallets that are locked by now.
UPDATE wallet SET balance = row.balance, points = row.points
FROM unnest(:user_ids::text[], :balances::bigint[], :points::bigint[])
     AS row (user_id, balance, points)
WHERE wallet.user_id = row.user_id;

-- name: read_clock
-- The moment by the database's clock: leases and pauses run by it alone.
SELECT clock_timestamp();

-- name: lock_calls
-- What was asked under these keys, locked in key order: after their payments, before wallets.
SELECT key, order_id, kind, state, user_id, amount, currency, command_id, traceparent, reference,
       callback_url, quarantine, owner, attempt, sends, first_sent_at, expires_at, next_at
FROM gateway_call
WHERE key = ANY (:keys::text[])
ORDER BY key
FOR UPDATE;

-- name: insert_calls!
-- Calls that are to be made. A conflict is another instance's: the caller starts over.
INSERT INTO gateway_call (key, order_id, kind, state, user_id, amount, currency, command_id,
                          traceparent, reference, callback_url, owner, attempt, sends, next_at)
SELECT *
FROM unnest(:keys::text[], :order_ids::text[], :kinds::text[], :states::text[], :user_ids::text[],
            :amounts::bigint[], :currencies::text[], :command_ids::text[], :traceparents::text[],
            :references::text[], :callback_urls::text[], :owners::text[], :attempts::int[],
            :sends::int[], :next_ats::timestamptz[])
ON CONFLICT DO NOTHING;

-- name: update_calls!
-- Rows are locked by now. What is asked for, and under which key, never changes.
UPDATE gateway_call AS call
SET state = row.state, reference = row.reference, quarantine = row.quarantine, owner = row.owner,
    attempt = row.attempt, sends = row.sends, first_sent_at = row.first_sent_at,
    expires_at = row.expires_at, next_at = row.next_at
FROM unnest(:keys::text[], :states::text[], :references::text[], :quarantines::text[],
            :owners::text[], :attempts::int[], :sends::int[], :first_sent_ats::timestamptz[],
            :expires_ats::timestamptz[], :next_ats::timestamptz[])
     AS row (key, state, reference, quarantine, owner, attempt, sends, first_sent_at, expires_at,
             next_at)
WHERE call.key = row.key;

-- name: close_calls!
-- Rows are locked by now. Who closes them by hand, when and why; the last one who does counts.
UPDATE gateway_call
SET closed_by = :operator::text, closed_note = :note::text, closed_at = :at::timestamptz
WHERE key = ANY (:keys::text[]);

-- name: claim_calls
-- Takes the leases of calls that are due. First those to be made again or asked for, as many as the
-- budget of retries says; then those that nobody has made yet; watched ones where room is left, as
-- many as their own budget says, so that no number of them keeps anybody waiting.
-- A call whose lease ran out may have been sent by who had it, so it counts as sent, from the
-- beginning of that lease until its end. Locked rows are being decided: passed by.
WITH retries AS (
    SELECT key FROM gateway_call
    WHERE next_at <= now() AND attempt > 0 AND state <> 'WATCHED'
    ORDER BY next_at
    LIMIT :retries
    FOR UPDATE SKIP LOCKED
), firsts AS (
    SELECT key FROM gateway_call
    WHERE next_at <= now() AND attempt = 0
    ORDER BY next_at
    LIMIT :calls - (SELECT count(*) FROM retries)
    FOR UPDATE SKIP LOCKED
), watched AS (
    SELECT key FROM gateway_call
    WHERE next_at <= now() AND state = 'WATCHED'
    ORDER BY next_at
    LIMIT least(:watches, :calls - (SELECT count(*) FROM retries) - (SELECT count(*) FROM firsts))
    FOR UPDATE SKIP LOCKED
), due AS (
    SELECT key FROM retries UNION ALL SELECT key FROM firsts UNION ALL SELECT key FROM watched
)
UPDATE gateway_call AS call
SET owner = :owner, attempt = held.attempt + 1,
    next_at = now() + make_interval(secs => :lease_s),
    state = CASE WHEN sent.maybe THEN 'UNKNOWN' ELSE held.state END,
    sends = held.sends + sent.maybe::int,
    first_sent_at = CASE WHEN sent.maybe
                         THEN coalesce(held.first_sent_at,
                                       held.next_at - make_interval(secs => :lease_s))
                         ELSE held.first_sent_at END,
    expires_at = CASE WHEN sent.maybe THEN held.next_at ELSE held.expires_at END
FROM due
JOIN gateway_call AS held USING (key)
JOIN payment USING (order_id)
CROSS JOIN LATERAL (
    SELECT held.owner IS NOT NULL AND held.state <> 'WATCHED' AS maybe
) AS sent
WHERE call.key = due.key
RETURNING call.key, call.order_id, call.kind, call.state, call.user_id, call.amount, call.currency,
          call.command_id, call.traceparent, call.reference, call.callback_url,
          call.quarantine, call.owner,
          call.attempt, call.sends, call.first_sent_at, call.expires_at, call.next_at,
          call.kind = 'refund' OR payment.state = 'PENDING' AS is_wanted;

-- name: remember_events
-- Those of these callbacks, each once and in order, that were not heard before.
INSERT INTO gateway_event (event_id)
SELECT unnest(:event_ids::text[])
ON CONFLICT DO NOTHING
RETURNING event_id;

-- name: forget_events!
-- A batch of callbacks whose repetitions can't come any more. An array and no IN: a plan may run the
-- subquery of an IN more than once, and the limit with it. What another instance is deleting is
-- passed by, so that two never wait for each other.
DELETE FROM gateway_event
WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM gateway_event
    WHERE received_at < now() - make_interval(secs => :keep_s)
    ORDER BY received_at
    LIMIT :events
    FOR UPDATE SKIP LOCKED));

-- name: insert_entries!
-- The primary key is the last defence: a transaction happens once.
INSERT INTO ledger_entry (transaction_id, account, amount, currency)
SELECT * FROM unnest(:transaction_ids::text[], :accounts::text[], :amounts::bigint[],
                     :currencies::text[]);
