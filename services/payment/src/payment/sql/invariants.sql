-- name: ledger_sums_to_zero
-- Invariant 4, always: the entries of each transaction sum to zero in each currency.
SELECT transaction_id, currency, sum(amount) AS surplus
FROM ledger_entry
GROUP BY transaction_id, currency
HAVING sum(amount) <> 0;

-- name: balances_agree
-- Invariant 4, always: no balance is negative, and each is the sum of its entries. A wallet
-- without entries is empty; entries of a user without a wallet belong to nobody.
SELECT coalesce('wallet:' || wallet.user_id, ledger.account) AS account,
       wallet.currency, wallet.balance, ledger.currency AS ledger_currency, ledger.total
FROM wallet
FULL JOIN (
    SELECT account, currency, sum(amount) AS total
    FROM ledger_entry
    WHERE account NOT LIKE 'house:%'
    GROUP BY account, currency
) AS ledger ON ledger.account = 'wallet:' || wallet.user_id
           AND ledger.currency = wallet.currency
WHERE wallet.user_id IS NULL
   OR wallet.balance < 0
   OR wallet.balance <> coalesce(ledger.total, 0);

-- name: captures_agree
-- Invariant 5, always: an order's capture is in the ledger once and whole, out of its user's
-- accounts and into the house's; so is its refund, the other way, and never more than was taken.
SELECT coalesce(payment.order_id, ledger.order_id) AS order_id, payment.state,
       payment.captured, payment.refunded, ledger.captured AS ledger_captured,
       ledger.refunded AS ledger_refunded
FROM payment
FULL JOIN (
    SELECT substr(transaction_id, strpos(transaction_id, ':') + 1) AS order_id,
           coalesce(sum(amount) FILTER (
               WHERE transaction_id LIKE 'payment:%' AND account = 'house:revenue'), 0) AS captured,
           coalesce(-sum(amount) FILTER (
               WHERE transaction_id LIKE 'refund:%' AND account = 'house:revenue'), 0) AS refunded,
           array_agg(DISTINCT account) FILTER (WHERE account <> 'house:revenue') AS accounts
    FROM ledger_entry
    WHERE transaction_id LIKE 'payment:%' OR transaction_id LIKE 'refund:%'
    GROUP BY 1
) AS ledger USING (order_id)
WHERE coalesce(payment.captured, 0) <> coalesce(ledger.captured, 0)
   OR coalesce(payment.refunded, 0) <> coalesce(ledger.refunded, 0)
   OR coalesce(payment.refunded, 0) > coalesce(payment.captured, 0)
   OR ledger.accounts <> ARRAY['wallet:' || payment.user_id];
