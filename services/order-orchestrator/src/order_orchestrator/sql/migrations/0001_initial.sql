-- What the orchestrator owns: one saga per order with its history, and commands that came too early.

-- `placed` never changes, `progress` with every transition; what SQL asks for has columns.
-- The indexed columns change at a saga's start and end only, so that the updates between stay
-- on their page (HOT).
CREATE TABLE saga (
    order_id            text        PRIMARY KEY,
    user_id             text        NOT NULL,
    fingerprint         bytea       NOT NULL CHECK (octet_length(fingerprint) = 16),
    fingerprint_version integer     NOT NULL,
    traceparent         text,
    accepted_at         timestamptz NOT NULL,
    placed              json        NOT NULL,
    definition_version  integer     NOT NULL CHECK (definition_version > 0),

    state               text        NOT NULL
                        CHECK (state IN ('PENDING', 'RESERVING', 'HOLDING', 'AWAITING_PAYMENT',
                                         'CHARGING', 'COMPLETING', 'COMPENSATING',
                                         'CONFIRMED', 'REJECTED', 'CANCELLED')),
    version             bigint      NOT NULL CHECK (version > 0),
    -- when the saga is to be looked at again; it may be early, never late
    timer_at            timestamptz,
    stuck_since         timestamptz,
    stuck_why           text,
    told_version        bigint,
    told_at             timestamptz,
    -- set while the saga is stored and not started: the queue of admission, oldest first
    pending_since       timestamptz,
    -- a reply is owed: what admission counts
    waiting             boolean     NOT NULL,
    progress            json        NOT NULL,
    -- a line per transition, the oldest first: see `saga_history`
    history             text        NOT NULL,

    CHECK ((state = 'PENDING') = (pending_since IS NOT NULL)),
    CHECK (state <> 'PENDING' OR NOT waiting),
    CHECK ((stuck_since IS NULL) = (stuck_why IS NULL)),
    CHECK ((told_version IS NULL) = (told_at IS NULL)),
    CHECK (state NOT IN ('CONFIRMED', 'REJECTED', 'CANCELLED') OR told_at IS NOT NULL)
) WITH (fillfactor = 50);
CREATE INDEX saga_timer ON saga (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX saga_pending ON saga (pending_since) WHERE pending_since IS NOT NULL;
CREATE INDEX saga_waiting ON saga (order_id) WHERE waiting;
CREATE INDEX saga_stuck ON saga (stuck_since) WHERE stuck_since IS NOT NULL;

-- One row per transition, without gaps: what an operator reads, and what replay is proved with.
CREATE VIEW saga_history AS
SELECT order_id, (line ->> 0)::bigint AS version, line ->> 1 AS state, line ->> 2 AS cause,
       (line ->> 3)::timestamptz AS at, line ->> 4 AS note
FROM saga
CROSS JOIN LATERAL (
    SELECT written::jsonb AS line
    FROM unnest(string_to_array(rtrim(history, E'\n'), E'\n')) AS written
    OFFSET 0  -- so that a line is parsed once, and not for each of its fields
) AS told;

-- PayOrder and CancelOrder that came before their PlaceOrder.
CREATE TABLE parked_command (
    order_id     text        NOT NULL,
    command_type text        NOT NULL,
    command_id   text        NOT NULL,
    body         json        NOT NULL,
    traceparent  text        NOT NULL,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, command_type, command_id)
);
CREATE INDEX parked_command_age ON parked_command (parked_at);
