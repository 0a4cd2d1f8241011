-- name: page_of_payments
-- Payments in key order, behind `after`; those in one state alone, or one payment alone, where that
-- is said.
SELECT order_id, state, user_id, amount, currency, method, points, captured, refunded, refusal,
       is_late, created_at
FROM payment
WHERE order_id > :after::text
  AND (:order_id::text IS NULL OR order_id = :order_id::text)
  AND state = coalesce(:state::text, state)
ORDER BY order_id
LIMIT :payments::integer;

-- name: page_of_open
-- Payments of which nobody knows yet what comes of them, or a person has to look: in key order, or
-- those whose call is the oldest first. What is only watched is not open. Small indexes hold all that
-- can be.
WITH open AS MATERIALIZED (
    SELECT order_id, min(since) AS since
    FROM (
        SELECT order_id, created_at AS since FROM gateway_call
        WHERE next_at IS NOT NULL AND attempt = 0
        UNION ALL
        SELECT order_id, created_at FROM gateway_call
        WHERE next_at IS NOT NULL AND attempt > 0 AND state <> 'WATCHED'
        UNION ALL
        SELECT order_id, created_at FROM gateway_call WHERE state IN ('WAITING', 'QUARANTINED')
    ) AS unfinished
    GROUP BY order_id
)
SELECT order_id, state, user_id, amount, currency, method, points, captured, refunded, refusal,
       is_late, created_at
FROM open JOIN payment USING (order_id)
WHERE order_id > :after::text
  AND state = coalesce(:state::text, state)
ORDER BY CASE WHEN :oldest_first::boolean THEN since END, order_id
LIMIT :payments::integer;

-- name: calls_of
-- What was asked of the gateway for these orders: a charge, and maybe its refund.
SELECT key, order_id, kind, state, amount, currency, reference, quarantine, sends, attempt, owner,
       first_sent_at, expires_at, next_at, created_at, closed_by, closed_note, closed_at
FROM gateway_call
WHERE key = ANY (:keys::text[])
ORDER BY order_id, kind;

-- name: entries_of
-- What an order moved, by all names that its transactions have.
SELECT transaction_id, account, amount, currency, at
FROM ledger_entry
WHERE transaction_id IN ('hold:' || :order_id::text, 'release:' || :order_id::text,
                         'payment:' || :order_id::text, 'refund:' || :order_id::text)
ORDER BY at, transaction_id, account;

-- name: ask_anew
-- The gateway is asked now about what of an order nobody has the lease of: what isn't final, what is
-- only watched, and what waits for a person. Where the order was told that no money moved, its charge
-- is only asked for, as one that is watched, and never sent. A refund that waits has nothing to ask,
-- nor has one that its payment doesn't owe. The end of a lease that ran out stays as it is: until
-- then the gateway took what was sent under it. The payment is locked before its calls, and these in
-- key order, as everywhere: who waits for a call alone looks at that row again, and at the payment as
-- it was before the wait. Whoever takes a lease meanwhile is waited for, and has it then.
WITH asked AS MATERIALIZED (
    SELECT order_id, state FROM payment WHERE order_id = :order_id::text FOR UPDATE
), due AS (
    SELECT call.key, asked.state IN ('TOMBSTONE', 'REFUSED') AS is_over
    FROM gateway_call AS call JOIN asked USING (order_id)
    WHERE call.key IN ('payment:' || :order_id::text, 'refund:' || :order_id::text)
      AND call.state IN ('INTENDED', 'UNKNOWN', 'ABSENT', 'WATCHED', 'QUARANTINED')
      AND (call.owner IS NULL OR call.next_at <= now())
      AND (call.state <> 'QUARANTINED' OR call.kind = 'charge' OR asked.state = 'REFUNDING')
    ORDER BY call.key
    FOR UPDATE OF call
)
UPDATE gateway_call AS call
SET state = CASE WHEN call.state <> 'QUARANTINED' THEN call.state
                 WHEN due.is_over THEN 'WATCHED'
                 ELSE 'UNKNOWN' END,
    quarantine = NULL,
    next_at = least(call.next_at, now())
FROM due
WHERE call.key = due.key
RETURNING call.key, order_id, kind, state, amount, currency, reference, quarantine, sends, attempt,
          owner, first_sent_at, expires_at, next_at, created_at, closed_by, closed_note,
          closed_at;

-- name: count_calls
-- What the gateway still owes an answer to, by state, with the age of the oldest; how many calls are
-- only watched, and how overdue the first of them is; and what waits, for its charge or for a person.
SELECT state, count(*) AS calls,
       extract(epoch FROM now() - min(created_at))::float8 AS oldest_s
FROM (
    SELECT state, created_at FROM gateway_call
    WHERE next_at IS NOT NULL AND attempt = 0
    UNION ALL
    SELECT state, created_at FROM gateway_call
    WHERE next_at IS NOT NULL AND attempt > 0 AND state <> 'WATCHED'
    UNION ALL
    SELECT state, created_at FROM gateway_call
    WHERE state IN ('WAITING', 'QUARANTINED')
) AS unsettled
GROUP BY state
UNION ALL
SELECT 'WATCHED', count(*), extract(epoch FROM now() - min(next_at))::float8
FROM gateway_call
WHERE next_at IS NOT NULL AND state = 'WATCHED'
HAVING count(*) > 0;

-- name: read_wallet
-- What a user has.
SELECT user_id, balance, points, currency
FROM wallet
WHERE user_id = :user_id::text;
