-- What payment owns: wallets, one payment per order, and the double-entry ledger of all money.

-- One row per user who ever had money. The balance is the sum of the ledger's entries for
-- `wallet:{user_id}`; nothing here says more than the ledger does, it only says it faster.
CREATE TABLE wallet (
    user_id  text   PRIMARY KEY,
    currency text   NOT NULL,
    -- Top-ups stop at 2^53 - 1, refunds never do: money that was taken can always be given back.
    balance  bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);  -- room on the page: a hot row is updated in place

-- One row per order, whatever became of it: its key is the payment's idempotency key. A charge
-- and its refund contend for it: whichever comes first decides, so a late charge can't slip past
-- its tombstone.
CREATE TABLE payment (
    order_id            text        PRIMARY KEY,
    state               text        NOT NULL
                        CHECK (state IN ('CAPTURED', 'REFUNDED', 'REFUSED', 'TOMBSTONE')),
    user_id             text,
    amount              bigint      CHECK (amount > 0),
    currency            text,
    method              text        CHECK (method IN ('wallet', 'gateway')),
    points              bigint      CHECK (points >= 0),
    -- how much was taken, and how much of that was given back: never more, and all or nothing
    captured            bigint      NOT NULL,
    refunded            bigint      NOT NULL,
    -- what a refusal said, to say it again; `already_refunded` is said by the tombstone itself
    refusal             text
                        CHECK (refusal IN ('insufficient_balance', 'payment_declined',
                                           'currency_mismatch', 'temporarily_unavailable',
                                           'method_unavailable')),
    -- of what the charge asked for; the version says which fields were taken, in which order
    fingerprint_version smallint,
    fingerprint         bytea       CHECK (octet_length(fingerprint) = 16),
    created_at          timestamptz NOT NULL DEFAULT now(),
    CHECK (captured = CASE WHEN state IN ('CAPTURED', 'REFUNDED') THEN amount ELSE 0 END),
    CHECK (refunded = CASE WHEN state = 'REFUNDED' THEN captured ELSE 0 END),
    CHECK ((state = 'REFUSED') = (refusal IS NOT NULL)),
    CHECK (num_nulls(user_id, amount, currency, method, points, fingerprint_version, fingerprint)
           = CASE WHEN state = 'TOMBSTONE' THEN 7 ELSE 0 END)
) WITH (fillfactor = 90);

-- The ledger. A transaction's entries sum to zero in each currency: what one account gives,
-- others get. Accounts of users are `wallet:{user_id}`, those of the house `house:revenue` and
-- `house:treasury`; the house has entries only, so no row of it is ever waited for.
-- Transactions are named after what they do (`payment:{order_id}`, `refund:{order_id}`,
-- `top-up:{command_id}`), so the key lets each happen once.
CREATE TABLE ledger_entry (
    transaction_id text        NOT NULL,
    account        text        NOT NULL,
    amount         bigint      NOT NULL CHECK (amount <> 0),
    currency       text        NOT NULL,
    at             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (transaction_id, account)
);
