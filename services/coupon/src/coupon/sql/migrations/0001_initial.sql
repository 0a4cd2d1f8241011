-- What coupon owns: campaigns, the coupons that they gave out, and what became of each order's hold.

-- One row per campaign. Whoever issues locks it, so `issued` is the sequence: 1 to N without a gap.
CREATE TABLE campaign (
    coupon_id      text        PRIMARY KEY,
    kind           text        NOT NULL
                   CHECK (kind IN ('first_come', 'queued', 'locked', 'lottery', 'conditional')),
    -- how many coupons there are; `limit` is a word of SQL
    coupon_limit   integer     NOT NULL CHECK (coupon_limit BETWEEN 1 AND 1000000000),
    issued         integer     NOT NULL CHECK (issued BETWEEN 0 AND coupon_limit),
    discount_type  text        NOT NULL CHECK (discount_type IN ('fixed', 'percent')),
    discount_value bigint      NOT NULL CHECK (discount_value > 0),
    -- in minor units: a percentage never takes more
    discount_cap   bigint      CHECK (discount_cap > 0),
    currency       text        NOT NULL,
    -- open from starts_at until just before ends_at, by this database's clock
    starts_at      timestamptz,
    ends_at        timestamptz,
    CHECK (discount_type <> 'percent' OR discount_value <= 100),
    CHECK (starts_at < ends_at)
) WITH (fillfactor = 50);  -- room on the page: a hot row is updated in place

-- One row per order, whatever became of it. A hold and its restore contend for this key:
-- whichever comes first decides, so a late hold can't slip past its tombstone. What a duplicate
-- is answered can be told from this row alone, whatever came in between.
CREATE TABLE coupon_hold (
    order_id   text        PRIMARY KEY,
    state      text        NOT NULL
               CHECK (state IN ('HELD', 'USED', 'RESTORED', 'REFUSED', 'TOMBSTONE')),
    coupon_id  text        NOT NULL,
    user_id    text        NOT NULL,
    -- before the discount
    total      bigint      CHECK (total >= 0),
    -- as it was promised at the hold, whatever the campaign says later
    discount   bigint      CHECK (discount BETWEEN 0 AND total),
    -- what a refusal said
    refusal    text,
    -- stays true when a used coupon is restored
    used       boolean     NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state IN ('HELD', 'USED', 'RESTORED')) = (discount IS NOT NULL)),
    CHECK ((total IS NULL) = (discount IS NULL)),
    CHECK ((state = 'REFUSED') = (refusal IS NOT NULL)),
    CHECK (used = (state = 'USED') OR state = 'RESTORED')
) WITH (fillfactor = 80);

-- One row per coupon given out: one per user and campaign. No foreign key to the campaign: rows
-- are inserted under its lock and campaigns are never deleted, and the check would cost each row
-- as much as the row itself.
CREATE TABLE coupon (
    coupon_id text        NOT NULL,
    user_id   text        NOT NULL,
    sequence  integer     NOT NULL CHECK (sequence > 0),
    state     text        NOT NULL CHECK (state IN ('ISSUED', 'HELD', 'USED')),
    -- which order holds or used it
    order_id  text,
    issued_at timestamptz NOT NULL,
    PRIMARY KEY (coupon_id, user_id),
    UNIQUE (coupon_id, sequence),
    CHECK ((state = 'ISSUED') = (order_id IS NULL))
) WITH (fillfactor = 80);
