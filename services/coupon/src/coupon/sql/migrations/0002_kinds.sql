-- What the kinds of campaign need beside `first_come`.

ALTER TABLE campaign
    -- what makes a user eligible, in CEL
    ADD COLUMN rule         text,
    -- until when its coupons are good; null: for good
    ADD COLUMN expires_at   timestamptz,
    -- Rises with each new holder of the campaign's lock, and with each gate that is written anew:
    -- what was found out under a lower one counts no more.
    ADD COLUMN fence        bigint      NOT NULL DEFAULT 0,
    -- of a lottery: the hash of its seed, the chain of hashes over its entries, how many there are,
    -- and what the draw made of it
    ADD COLUMN seed_hash    text,
    ADD COLUMN entries_hash text,
    ADD COLUMN seed         text,
    ADD COLUMN entered      integer     NOT NULL DEFAULT 0 CHECK (entered >= 0),
    ADD COLUMN drawn_at     timestamptz,
    ADD COLUMN winners      integer     CHECK (winners BETWEEN 0 AND coupon_limit),
    ADD CHECK ((rule IS NOT NULL) = (kind = 'conditional')),
    ADD CHECK ((seed_hash IS NOT NULL) = (kind = 'lottery')),
    ADD CHECK ((entries_hash IS NOT NULL) = (kind = 'lottery')),
    ADD CHECK (kind = 'lottery' OR (entered = 0 AND drawn_at IS NULL)),
    ADD CHECK ((drawn_at IS NULL) = (winners IS NULL)),
    ADD CHECK ((drawn_at IS NULL) = (seed IS NULL)),
    ADD CHECK (winners <= entered),
    ADD CHECK (kind <> 'lottery' OR issued <= coalesce(winners, 0));

UPDATE campaign SET expires_at = ends_at;

-- Twice a second: which campaigns give out coupons behind a gate, and which lotteries owe some. Those
-- that are over long ago cost nothing.
CREATE INDEX campaign_gated ON campaign ((coalesce(least(ends_at, expires_at), 'infinity')))
    WHERE issued < coupon_limit AND kind IN ('first_come', 'conditional');
CREATE INDEX campaign_owing ON campaign (coupon_id) WHERE issued < winners;

-- Where a campaign stands in its life, by the clock of this database.
CREATE VIEW campaign_life AS
SELECT coupon_id,
       CASE WHEN drawn_at IS NOT NULL THEN 'drawn'
            WHEN starts_at > clock_timestamp() THEN 'draft'
            WHEN least(ends_at, expires_at) <= clock_timestamp() THEN 'closed'
            ELSE 'open'
       END AS life
FROM campaign;

-- Where a request for a coupon of a `queued` campaign lay: the order of arrival, for all to see.
ALTER TABLE coupon
    ADD COLUMN arrived_partition integer,
    ADD COLUMN arrived_offset    bigint;

-- One row per user who entered a lottery, numbered from 1 in the order in which they are hashed.
CREATE TABLE lottery_entry (
    coupon_id  text        NOT NULL,
    user_id    text        NOT NULL,
    number     integer     NOT NULL CHECK (number > 0),
    -- of the request: a winner's CouponIssued answers it
    command_id text        NOT NULL,
    entered_at timestamptz NOT NULL,
    PRIMARY KEY (coupon_id, user_id),
    UNIQUE (coupon_id, number)
);

-- What nobody may know before the draw: the seed, and each entry's ticket, in whose order the
-- coupons go out. Row security lets nobody but the owner see a row: not the operator's role either,
-- which may read all tables.
CREATE TABLE lottery_seed (
    coupon_id text PRIMARY KEY,
    seed      text NOT NULL
);
ALTER TABLE lottery_seed ENABLE ROW LEVEL SECURITY;

CREATE TABLE lottery_ticket (
    coupon_id text  NOT NULL,
    ticket    bytea NOT NULL,
    user_id   text  NOT NULL,
    PRIMARY KEY (coupon_id, ticket, user_id)
);
ALTER TABLE lottery_ticket ENABLE ROW LEVEL SECURITY;
