-- What was measured of products that were contended, by all instances together: what the choice of a
-- strategy is advised by. A few minutes are kept.
CREATE TABLE product_contention (
    product_id   text        NOT NULL,
    at           timestamptz NOT NULL,
    commands     bigint      NOT NULL CHECK (commands >= 0),
    conflicts    bigint      NOT NULL CHECK (conflicts >= 0),
    refusals     bigint      NOT NULL CHECK (refusals >= 0),
    lock_wait_ms float8      NOT NULL CHECK (lock_wait_ms >= 0),
    PRIMARY KEY (product_id, at)
);
CREATE INDEX product_contention_at ON product_contention (at);
-- The products that choose for themselves are few, and looked at every few seconds.
CREATE INDEX product_auto ON product (product_id) WHERE strategy = 'auto';
