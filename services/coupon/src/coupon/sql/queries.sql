-- name: lock_holds
-- The records of a chunk's orders, locked in key order: first of all locks.
SELECT order_id, state, coupon_id, user_id, total, discount, refusal, used
FROM coupon_hold
WHERE order_id = ANY (:order_ids::text[])
ORDER BY order_id
FOR UPDATE;

-- name: lock_campaigns
-- The campaigns that a chunk issues from or changes, locked in key order: second of all locks.
SELECT coupon_id, kind, coupon_limit, issued, discount_type, discount_value, discount_cap,
       currency, starts_at, ends_at, expires_at, rule, fence, seed_hash, entries_hash,
       seed, entered, drawn_at, winners
FROM campaign
WHERE coupon_id = ANY (:coupon_ids::text[])
ORDER BY coupon_id
FOR UPDATE;

-- name: read_campaigns
-- The same rows without locks: a hold changes nothing in them, and must not wait for those who
-- queue there for a coupon.
SELECT coupon_id, kind, coupon_limit, issued, discount_type, discount_value, discount_cap,
       currency, starts_at, ends_at, expires_at, rule, fence, seed_hash, entries_hash,
       seed, entered, drawn_at, winners
FROM campaign
WHERE coupon_id = ANY (:coupon_ids::text[]);

-- name: queue_campaigns
-- A place in the queue of each of these campaigns, until the transaction ends. Advisory locks are
-- granted in the order in which they were asked for; who waits for a row isn't. There are 256
-- queues, so that a chunk of many campaigns never fills the table of locks, and 7354 tells them
-- from other advisory locks.
SELECT pg_advisory_xact_lock(7354, number)
FROM (SELECT DISTINCT hashtext(coupon_id) & 255 AS number
      FROM unnest(:coupon_ids::text[]) AS coupon_id
      ORDER BY number
      OFFSET 0) AS queues;

-- name: raise_fences
-- A fencing token for each of these campaigns, higher than all before: who writes under a lower one
-- is too late.
WITH locked AS MATERIALIZED (
    SELECT coupon_id FROM campaign
    WHERE coupon_id = ANY (:coupon_ids::text[])
    ORDER BY coupon_id
    FOR UPDATE
)
UPDATE campaign SET fence = fence + 1
FROM locked
WHERE campaign.coupon_id = locked.coupon_id
RETURNING campaign.coupon_id, campaign.fence;

-- name: giving_by_gate
-- Campaigns that a gate stands before: open by the clock of the database, with coupons left. Said on
-- the columns and not by `campaign_life`, as the index has it.
SELECT coupon_id, kind, coupon_limit, issued, discount_type, discount_value, discount_cap,
       currency, starts_at, ends_at, expires_at, rule, fence, seed_hash, entries_hash,
       seed, entered, drawn_at, winners
FROM campaign
WHERE issued < coupon_limit AND kind IN ('first_come', 'conditional')
  AND coalesce(least(ends_at, expires_at), 'infinity') > now()
  AND coalesce(starts_at <= now(), true);

-- name: lock_coupons
-- The coupons that a chunk may hold, use or restore, locked in key order: last of all locks.
-- A join and no IN, so that each key is one look into the index.
SELECT coupon.coupon_id, coupon.user_id, sequence, state, order_id, issued_at
FROM unnest(:coupon_ids::text[], :user_ids::text[]) AS wanted (coupon_id, user_id)
JOIN coupon USING (coupon_id, user_id)
ORDER BY coupon.coupon_id, coupon.user_id
FOR UPDATE OF coupon;

-- name: read_coupons
-- Which of these users have their coupon already. Where any is given out, the campaign is locked by
-- now, so nobody adds another.
SELECT coupon.coupon_id, coupon.user_id, sequence, state, order_id, issued_at
FROM unnest(:coupon_ids::text[], :user_ids::text[]) AS wanted (coupon_id, user_id)
JOIN coupon USING (coupon_id, user_id);

-- name: read_clock
-- The time that judges what is open and expired. Not now(): the transaction may have waited for
-- its locks since it began.
SELECT date_trunc('milliseconds', clock_timestamp());

-- name: insert_holds!
-- A row that is there already belongs to a faster instance: the caller counts and starts over.
INSERT INTO coupon_hold (order_id, state, coupon_id, user_id, total, discount, refusal, used)
SELECT *
FROM unnest(:order_ids::text[], :states::text[], :coupon_ids::text[], :user_ids::text[],
            :totals::bigint[], :discounts::bigint[], :refusals::text[], :useds::boolean[])
ON CONFLICT DO NOTHING;

-- name: update_holds!
-- Rows are locked by now.
UPDATE coupon_hold SET state = row.state, used = row.used
FROM unnest(:order_ids::text[], :states::text[], :useds::boolean[]) AS row (order_id, state, used)
WHERE coupon_hold.order_id = row.order_id;

-- name: insert_campaigns!
-- New campaigns; a conflict is another instance's PutCampaign of the same one.
INSERT INTO campaign (coupon_id, kind, coupon_limit, issued, discount_type, discount_value,
                      discount_cap, currency, starts_at, ends_at, expires_at, rule, fence,
                      seed_hash, entries_hash, seed, entered, drawn_at, winners)
SELECT *
FROM unnest(:coupon_ids::text[], :kinds::text[], :limits::integer[], :issueds::integer[],
            :discount_types::text[], :discount_values::bigint[], :discount_caps::bigint[],
            :currencies::text[], :starts_ats::timestamptz[], :ends_ats::timestamptz[],
            :expires_ats::timestamptz[], :rules::text[], :fences::bigint[], :seed_hashes::text[],
            :entries_hashes::text[], :seeds::text[], :entereds::integer[], :drawn_ats::timestamptz[], :winners::integer[])
ON CONFLICT DO NOTHING;

-- name: update_campaigns!
-- What was decided on campaigns that are locked by now, each under the fence at which it was asked
-- about before: where another instance holds the lock by now, or wrote the gate anew, its fence is
-- higher, no row is touched, and the chunk begins anew.
UPDATE campaign
SET kind = row.kind, coupon_limit = row.coupon_limit, issued = row.issued,
    discount_type = row.discount_type, discount_value = row.discount_value,
    discount_cap = row.discount_cap, currency = row.currency,
    starts_at = row.starts_at, ends_at = row.ends_at, expires_at = row.expires_at,
    rule = row.rule, fence = row.fence, seed_hash = row.seed_hash,
    entries_hash = row.entries_hash, seed = row.seed, entered = row.entered, drawn_at = row.drawn_at, winners = row.winners
FROM unnest(:coupon_ids::text[], :kinds::text[], :limits::integer[], :issueds::integer[],
            :discount_types::text[], :discount_values::bigint[], :discount_caps::bigint[],
            :currencies::text[], :starts_ats::timestamptz[], :ends_ats::timestamptz[],
            :expires_ats::timestamptz[], :rules::text[], :fences::bigint[], :seed_hashes::text[],
            :entries_hashes::text[], :seeds::text[], :entereds::integer[], :drawn_ats::timestamptz[], :winners::integer[],
            :asked_fences::bigint[])
     AS row (coupon_id, kind, coupon_limit, issued, discount_type, discount_value, discount_cap,
             currency, starts_at, ends_at, expires_at, rule, fence, seed_hash, entries_hash, seed, entered,
             drawn_at, winners, asked_fence)
WHERE campaign.coupon_id = row.coupon_id AND campaign.fence = row.asked_fence;

-- name: insert_coupons!
-- Under the campaign's lock. The two unique keys are the last defence: a second coupon for a user
-- or a sequence number given twice fails the whole chunk.
INSERT INTO coupon (coupon_id, user_id, sequence, state, order_id, issued_at,
                    arrived_partition, arrived_offset)
SELECT *
FROM unnest(:coupon_ids::text[], :user_ids::text[], :sequences::integer[], :states::text[],
            :order_ids::text[], :issued_ats::timestamptz[], :partitions::integer[],
            :offsets::bigint[]);

-- name: update_coupons!
-- Rows are locked by now.
UPDATE coupon SET state = row.state, order_id = row.order_id
FROM unnest(:coupon_ids::text[], :user_ids::text[], :states::text[], :order_ids::text[])
     AS row (coupon_id, user_id, state, order_id)
WHERE coupon.coupon_id = row.coupon_id AND coupon.user_id = row.user_id;

-- name: count_campaigns
-- How many campaigns there are, by their life.
SELECT life, count(*) AS campaigns FROM campaign_life GROUP BY life;
