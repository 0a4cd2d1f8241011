-- Payments by a gateway outside, and points.

-- One point is one minor unit. `wallet:{user_id}` and `points:{user_id}` are accounts of the ledger.
ALTER TABLE wallet
    ADD COLUMN points bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT wallet_points_check CHECK (points >= 0) NOT VALID;

-- PENDING: a charge at the gateway has no outcome yet. CANCELLING: its refund was asked for
-- meanwhile. REFUNDING: the gateway has still to give the money back.
-- NOT VALID, so that no lock is held while all rows are read: those of before were written under
-- constraints that say more.
ALTER TABLE payment
    DROP CONSTRAINT payment_state_check,
    DROP CONSTRAINT payment_check,
    DROP CONSTRAINT payment_check1,
    DROP CONSTRAINT payment_check2,
    DROP CONSTRAINT payment_check3,
    -- A capture that turned up after its order was told that nothing had moved, and that its points
    -- were given back: it is of the rest alone, and it only ever goes back.
    ADD COLUMN is_late boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT payment_state_check
        CHECK (state IN ('PENDING', 'CANCELLING', 'CAPTURED', 'REFUNDING', 'REFUNDED', 'REFUSED',
                         'TOMBSTONE')) NOT VALID,
    ADD CONSTRAINT payment_late_check
        CHECK (NOT is_late OR (state IN ('REFUNDING', 'REFUNDED') AND method = 'gateway'))
        NOT VALID,
    ADD CONSTRAINT payment_captured_check
        CHECK (captured = CASE WHEN state NOT IN ('CAPTURED', 'REFUNDING', 'REFUNDED') THEN 0
                               WHEN is_late THEN amount - points
                               ELSE amount END) NOT VALID,
    ADD CONSTRAINT payment_refunded_check
        CHECK (refunded = CASE WHEN state = 'REFUNDED' THEN captured ELSE 0 END) NOT VALID,
    ADD CONSTRAINT payment_refusal_state_check
        CHECK ((state = 'REFUSED') = (refusal IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT payment_charge_check
        CHECK (num_nulls(user_id, amount, currency, method, points, fingerprint_version,
                         fingerprint)
               IN (0, CASE WHEN state = 'TOMBSTONE' THEN 7 ELSE 0 END)) NOT VALID,
    ADD CONSTRAINT payment_points_within_check CHECK (points <= amount) NOT VALID;

-- What is asked of the gateway: one row for a charge and one for its refund. The row is committed
-- before the request is sent, under the key that the gateway knows it by; whatever dies meanwhile,
-- somebody goes on from the row.
CREATE TABLE gateway_call (
    key           text        PRIMARY KEY,
    order_id      text        NOT NULL REFERENCES payment,
    kind          text        NOT NULL CHECK (kind IN ('charge', 'refund')),
    -- WAITING: a refund of a charge without outcome. INTENDED: nothing was sent, or nothing of it
    -- was taken. UNKNOWN: sent, and nobody knows what came of it. ABSENT: the gateway does not know
    -- the key. WATCHED: as ABSENT, after its order was given up. SUCCEEDED, DECLINED, and VOID, which
    -- is never sent, are final. QUARANTINED: the gateway contradicts us, and a person has to look.
    state         text        NOT NULL
                  CHECK (state IN ('WAITING', 'INTENDED', 'UNKNOWN', 'ABSENT', 'WATCHED',
                                   'SUCCEEDED', 'DECLINED', 'VOID', 'QUARANTINED')),
    user_id       text        NOT NULL,
    amount        bigint      NOT NULL CHECK (amount > 0),
    currency      text        NOT NULL,
    -- the gateway's id of the charge
    reference     text,
    -- Where the gateway calls back: a part of the request, and under one key the request is the same
    -- whoever sends it.
    callback_url  text,
    -- why a person has to look
    quarantine    text,
    -- The lease: who may send, and how often it was taken. What a worker found out counts only
    -- under the attempt in which it asked, unless it is final.
    owner         text,
    attempt       integer     NOT NULL,
    sends         integer     NOT NULL CHECK (sends >= 0),
    first_sent_at timestamptz,
    -- when the gateway stops to take the last request: the end of the lease it was sent under
    expires_at    timestamptz,
    -- when to look at it again, the end of its lease while it has one; null: never
    next_at       timestamptz,
    -- the command that waits for the answer
    command_id    text        NOT NULL,
    traceparent   text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Who closed it by hand, why and when: an operator saw to it that no money of its order is at
    -- the gateway any more.
    closed_by     text,
    closed_note   text,
    closed_at     timestamptz,
    CHECK (num_nulls(closed_by, closed_note, closed_at) IN (0, 3)),
    CHECK (key = CASE kind WHEN 'charge' THEN 'payment:' ELSE 'refund:' END || order_id),
    CHECK ((state = 'QUARANTINED') = (quarantine IS NOT NULL)),
    CHECK (owner IS NULL OR next_at IS NOT NULL),
    CHECK (state NOT IN ('INTENDED', 'UNKNOWN') OR next_at IS NOT NULL)
);

-- What is due is found by class, so that none hides behind another: calls that nobody has made yet,
-- those to be made again or asked for, and those that are only watched.
CREATE INDEX gateway_call_new ON gateway_call (next_at)
    WHERE next_at IS NOT NULL AND attempt = 0;
CREATE INDEX gateway_call_again ON gateway_call (next_at)
    WHERE next_at IS NOT NULL AND attempt > 0 AND state <> 'WATCHED';
CREATE INDEX gateway_call_watched ON gateway_call (next_at)
    WHERE next_at IS NOT NULL AND state = 'WATCHED';

-- What stands still until something else happens, or somebody looks.
CREATE INDEX gateway_call_held ON gateway_call (state) WHERE state IN ('WAITING', 'QUARANTINED');

-- Callbacks that were heard, so that each counts once.
CREATE TABLE gateway_event (
    event_id    text        PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX gateway_event_age ON gateway_event (received_at);
