-- name: ledger_sums_to_zero
-- Invariant 4, always: the entries of each transaction sum to zero in each currency.
SELECT transaction_id, currency, sum(amount) AS surplus
FROM ledger_entry
GROUP BY transaction_id, currency
HAVING sum(amount) <> 0;

-- name: balances_agree
-- Invariant 4, always: no balance is negative, and each is the sum of its entries, of money and of
-- points. A wallet without entries is empty; entries of a user without a wallet belong to nobody.
SELECT coalesce(purse.account, ledger.account) AS account,
       purse.currency, purse.balance, ledger.currency AS ledger_currency, ledger.total
FROM (
    SELECT 'wallet:' || user_id AS account, currency, balance FROM wallet
    UNION ALL
    SELECT 'points:' || user_id, currency, points FROM wallet
) AS purse
FULL JOIN (
    SELECT account, currency, sum(amount) AS total
    FROM ledger_entry
    WHERE account NOT LIKE 'house:%'
    GROUP BY account, currency
) AS ledger ON ledger.account = purse.account AND ledger.currency = purse.currency
WHERE purse.account IS NULL
   OR purse.balance < 0
   OR purse.balance <> coalesce(ledger.total, 0);

-- name: captures_agree
-- Invariant 5, always: an order's capture is in the ledger once and whole, out of its user's
-- accounts, held points and the gateway, and into the house's; so is its refund, the other way, and
-- never more than was taken. What the gateway took is what it was asked for; points are held as long
-- as its outcome isn't known.
SELECT coalesce(payment.order_id, ledger.order_id) AS order_id, payment.state,
       payment.captured, payment.refunded, ledger.captured AS ledger_captured,
       ledger.refunded AS ledger_refunded, ledger.by_gateway, ledger.held
FROM payment
FULL JOIN (
    SELECT substr(transaction_id, strpos(transaction_id, ':') + 1) AS order_id,
           coalesce(sum(amount) FILTER (
               WHERE transaction_id LIKE 'payment:%' AND account = 'house:revenue'), 0) AS captured,
           coalesce(-sum(amount) FILTER (
               WHERE transaction_id LIKE 'refund:%' AND account = 'house:revenue'), 0) AS refunded,
           coalesce(-sum(amount) FILTER (WHERE account = 'house:gateway'), 0) AS by_gateway,
           coalesce(sum(amount) FILTER (WHERE account = 'house:held'), 0) AS held,
           array_agg(DISTINCT account) FILTER (WHERE account NOT LIKE 'house:%') AS accounts
    FROM ledger_entry
    WHERE transaction_id LIKE 'payment:%' OR transaction_id LIKE 'refund:%'
       OR transaction_id LIKE 'hold:%' OR transaction_id LIKE 'release:%'
    GROUP BY 1
) AS ledger USING (order_id)
WHERE coalesce(payment.captured, 0) <> coalesce(ledger.captured, 0)
   OR coalesce(payment.refunded, 0) <> coalesce(ledger.refunded, 0)
   OR coalesce(payment.refunded, 0) > coalesce(payment.captured, 0)
   OR coalesce(ledger.by_gateway, 0)
      <> CASE WHEN payment.method = 'gateway' AND payment.captured > payment.refunded
              THEN payment.amount - payment.points ELSE 0 END
   OR coalesce(ledger.held, 0)
      <> CASE WHEN payment.state IN ('PENDING', 'CANCELLING') THEN payment.points ELSE 0 END
   OR NOT ledger.accounts <@ ARRAY['wallet:' || payment.user_id, 'points:' || payment.user_id];

-- name: calls_fit_their_payments
-- Invariant 5, always: what was asked of the gateway is what the payment says, for the part that is
-- the gateway's: captured where the charge succeeded, refused where it was declined, given back where
-- the refund succeeded. What is quarantined fits nothing until a person has looked.
SELECT coalesce(payment.order_id, charge.order_id, refund.order_id) AS order_id, payment.state,
       charge.state AS charge_state, charge.amount AS charge_amount,
       refund.state AS refund_state, refund.amount AS refund_amount
FROM (SELECT * FROM payment WHERE method = 'gateway' AND amount > points
                              AND refusal IS DISTINCT FROM 'insufficient_balance'
                              AND refusal IS DISTINCT FROM 'currency_mismatch'
                              AND refusal IS DISTINCT FROM 'method_unavailable') AS payment
FULL JOIN (SELECT * FROM gateway_call WHERE kind = 'charge') AS charge USING (order_id)
FULL JOIN (SELECT * FROM gateway_call WHERE kind = 'refund') AS refund USING (order_id)
WHERE payment.order_id IS NULL OR charge.key IS NULL
   OR charge.amount <> payment.amount - payment.points OR charge.currency <> payment.currency
   OR charge.user_id <> payment.user_id
   OR refund.amount <> charge.amount OR refund.currency <> charge.currency
   OR (charge.state <> 'QUARANTINED'
       AND NOT CASE payment.state
           WHEN 'PENDING' THEN charge.state IN ('INTENDED', 'UNKNOWN', 'ABSENT')
           WHEN 'CANCELLING' THEN charge.state IN ('INTENDED', 'UNKNOWN', 'ABSENT')
           WHEN 'REFUSED' THEN charge.state IN ('DECLINED', 'WATCHED')
           WHEN 'TOMBSTONE' THEN charge.state IN ('WATCHED', 'DECLINED', 'VOID')
           ELSE charge.state = 'SUCCEEDED' END)
   OR (coalesce(refund.state, '') <> 'QUARANTINED'
       AND NOT CASE payment.state
           WHEN 'CANCELLING' THEN coalesce(refund.state = 'WAITING', false)
           WHEN 'TOMBSTONE' THEN coalesce(refund.state = 'VOID', false)
           WHEN 'REFUNDING' THEN coalesce(refund.state IN ('INTENDED', 'UNKNOWN', 'ABSENT'), false)
           WHEN 'REFUNDED' THEN coalesce(refund.state = 'SUCCEEDED', false)
           ELSE refund.key IS NULL END);

-- name: calls_are_settled
-- Invariant 5, at rest: nothing that was asked of the gateway is open, or waits for a person. A
-- charge that the gateway doesn't know is watched after its order was given up, and that is all.
SELECT order_id, kind, state, quarantine, attempt, next_at
FROM gateway_call
WHERE state NOT IN ('SUCCEEDED', 'DECLINED', 'VOID', 'WATCHED');
