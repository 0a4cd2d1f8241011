-- name: read_campaigns
-- Campaigns in key order, behind `after`; those in one life alone, or one campaign alone, where
-- that is said. A life is judged by the clock of the database, as the requests for coupons are.
-- A drawn lottery gives a coupon to each winner, and no more.
SELECT *
FROM (
    SELECT coupon_id, kind, coupon_limit, issued, entered,
           coalesce(winners, coupon_limit) - issued AS left_over,
           discount_type, discount_value, discount_cap, currency,
           starts_at, ends_at, expires_at,
           coalesce(expires_at <= clock_timestamp(), false) AS is_expired,
           rule, seed_hash, seed, drawn_at, winners, life
    FROM campaign JOIN campaign_life USING (coupon_id)
    WHERE coupon_id > :after::text
      AND (:coupon_id::text IS NULL OR coupon_id = :coupon_id::text)
) AS judged
WHERE life = coalesce(:life::text, life)
ORDER BY coupon_id
LIMIT :campaigns::integer;

-- name: count_coupons
-- The coupons of a campaign by their state. It reads all of them, a quarter of a second for a
-- million: counters in the campaign's row would make every order wait for that row.
SELECT count(*) FILTER (WHERE state = 'ISSUED') AS issued,
       count(*) FILTER (WHERE state = 'HELD') AS held,
       count(*) FILTER (WHERE state = 'USED') AS used,
       min(issued_at) AS first_issued_at,
       max(issued_at) AS last_issued_at
FROM coupon
WHERE coupon_id = :coupon_id::text;

-- name: sum_discounts
-- What the used coupons of a campaign took off their orders, in minor units.
SELECT coalesce(sum(coupon_hold.discount), 0)
FROM coupon
JOIN coupon_hold USING (order_id)
WHERE coupon.coupon_id = :coupon_id::text AND coupon.state = 'USED';

-- name: page_of_entries
-- Who entered a lottery, in the order in which entries are hashed: that in which they came.
SELECT number, user_id, command_id, entered_at
FROM lottery_entry
WHERE coupon_id = :coupon_id::text AND number > :after::integer
ORDER BY number
LIMIT :entries::integer;
