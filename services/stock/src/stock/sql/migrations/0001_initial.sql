-- What stock owns: products, reservations, and the ledger of every unit that ever moved.

-- One row per product; the counters are the truth, and the ledger gives the same numbers.
CREATE TABLE product (
    product_id      text    PRIMARY KEY,
    name            text    NOT NULL,
    price           bigint  NOT NULL CHECK (price BETWEEN 0 AND 1000000000),
    currency        text    NOT NULL,
    strategy        text    NOT NULL
                    CHECK (strategy IN ('optimistic', 'pessimistic', 'redis', 'auto')),
    when_redis_down text    NOT NULL CHECK (when_redis_down IN ('postgres', 'closed')),
    max_per_order   integer CHECK (max_per_order BETWEEN 1 AND 10000),
    available       bigint  NOT NULL CHECK (available >= 0),
    reserved        bigint  NOT NULL CHECK (reserved >= 0),
    sold            bigint  NOT NULL CHECK (sold >= 0),
    received        bigint  NOT NULL CHECK (available + reserved + sold = received),
    -- rises with each change: what a fold on unlocked rows compares when it saves
    version         bigint  NOT NULL CHECK (version > 0)
) WITH (fillfactor = 50);  -- room on the page: a hot row is updated in place

-- One row per order, whatever became of it. A reservation and its release contend for this key:
-- whichever comes first decides, so a late reserve can't slip past its tombstone.
CREATE TABLE reservation (
    order_id   text        PRIMARY KEY,
    state      text        NOT NULL
               CHECK (state IN ('RESERVED', 'COMMITTED', 'RELEASED', 'REFUSED', 'TOMBSTONE')),
    -- [[productId, quantity, unitPrice], …] in order of product id; empty where nothing was held
    lines      jsonb       NOT NULL,
    -- what a refusal said, to say it again: {"reason": …, "details": […]}
    refusal    jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state IN ('REFUSED', 'TOMBSTONE')) = (lines = '[]'::jsonb)),
    CHECK ((state = 'REFUSED') = (refusal IS NOT NULL))
) WITH (fillfactor = 80);

-- The ledger: each effect of each command on each product, once.
CREATE TABLE stock_movement (
    command_id text        NOT NULL,
    product_id text        NOT NULL,
    kind       text        NOT NULL
               CHECK (kind IN ('received', 'adjusted', 'reserved', 'committed', 'released')),
    quantity   bigint      NOT NULL
               CHECK (quantity > 0 OR (kind = 'adjusted' AND quantity <> 0)),
    reason     text,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (command_id, product_id)
);
