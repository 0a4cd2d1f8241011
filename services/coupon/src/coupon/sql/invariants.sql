-- name: never_over_issued
-- Invariant 3, always: a campaign issues at most its limit.
SELECT coupon_id, coupon_limit, issued
FROM campaign
WHERE issued NOT BETWEEN 0 AND coupon_limit;

-- name: sequences_are_gapless
-- Invariant 3, always: as many coupons as the campaign counts, numbered 1 to that count.
SELECT coupon_id, campaign.issued, given.coupons, given.numbers, given.lowest, given.highest
FROM campaign
FULL JOIN (
    SELECT coupon_id, count(*) AS coupons, count(DISTINCT sequence) AS numbers,
           min(sequence) AS lowest, max(sequence) AS highest
    FROM coupon GROUP BY coupon_id
) AS given USING (coupon_id)
WHERE campaign.issued IS DISTINCT FROM coalesce(given.coupons, 0)
   OR given.coupons <> given.numbers
   OR given.lowest <> 1
   OR given.highest <> given.coupons;

-- name: one_coupon_per_user
-- Invariant 3, always: a user has at most one coupon of a campaign.
SELECT coupon_id, user_id, count(*) AS coupons
FROM coupon GROUP BY coupon_id, user_id HAVING count(*) > 1;

-- name: holds_and_coupons_agree
-- Invariant 3, always: a coupon is held or used by the order that its record names, and by no
-- other; every live record has its coupon in the same state.
SELECT coupon.coupon_id, coupon.user_id, coupon.state, coupon.order_id,
       live.order_id AS order_of_record, live.state AS state_of_record
FROM (SELECT * FROM coupon WHERE state <> 'ISSUED') AS coupon
FULL JOIN (SELECT * FROM coupon_hold WHERE state IN ('HELD', 'USED')) AS live
     ON live.order_id = coupon.order_id
    AND live.coupon_id = coupon.coupon_id
    AND live.user_id = coupon.user_id
WHERE coupon.state IS DISTINCT FROM live.state;

-- name: discounts_are_within_totals
-- Invariant 3, always: no discount is above what it is taken off.
SELECT order_id, total, discount
FROM coupon_hold
WHERE discount NOT BETWEEN 0 AND total;

-- name: demand_is_served
-- Invariant 3, at rest: where demand is N or more, N are issued: nobody was told `sold_out`, since
-- the campaign was last put, while coupons are left. A change waits for the campaign's row: who was
-- received a moment after it may rightly have found the limit of before. Each answer is read once.
WITH answered AS MATERIALIZED (
    SELECT answer ->> 1 AS coupon_id, answer ->> 2 AS said, received_at,
           (answer ->> 4)::json ->> 'reason' AS reason
    FROM inbox, jsonb_array_elements(answers) AS answer
    WHERE answers IS NOT NULL
),
put AS (
    SELECT coupon_id, received_at,
           row_number() OVER (PARTITION BY coupon_id ORDER BY received_at) AS number
    FROM answered
    WHERE said = 'CampaignPut'
),
settled AS (
    SELECT coupon_id,
           max(received_at + CASE WHEN number = 1 THEN interval '0' ELSE interval '10 s' END) AS since
    FROM put GROUP BY coupon_id
),
refused AS (
    SELECT coupon_id, count(*) AS told_sold_out
    FROM answered
    LEFT JOIN settled USING (coupon_id)
    WHERE reason = 'sold_out' AND received_at >= coalesce(since, '-infinity')
    GROUP BY coupon_id
)
SELECT coupon_id, coupon_limit, issued, told_sold_out
FROM refused
JOIN campaign USING (coupon_id)
WHERE issued < coupon_limit;

-- name: queued_in_order
-- Invariant 3, always: of a queued campaign, who lay earlier on a partition has the lower number.
SELECT coupon_id, arrived_partition, sequence, arrived_offset, earlier_offset
FROM (
    SELECT coupon_id, arrived_partition, sequence, arrived_offset,
           max(arrived_offset) OVER (
               PARTITION BY coupon_id, arrived_partition ORDER BY sequence
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS earlier_offset
    FROM coupon JOIN campaign USING (coupon_id)
    WHERE kind = 'queued'
) AS arrived
WHERE earlier_offset >= arrived_offset OR arrived_offset IS NULL;

-- name: winners_are_of_the_draw
-- Invariant 3, always: a lottery's coupons went to users who entered, in the order of their tickets.
-- That nobody with a lower ticket was left out is what `orderctl lottery verify` looks at.
SELECT coupon_id, sequence, user_id, number AS entry, ticket, ticket_before
FROM (
    SELECT coupon_id, sequence, user_id, number, ticket,
           lag(ticket) OVER (PARTITION BY coupon_id ORDER BY sequence) AS ticket_before
    FROM campaign
    JOIN coupon USING (coupon_id)
    LEFT JOIN lottery_entry AS entry USING (coupon_id, user_id)
    CROSS JOIN LATERAL (
        SELECT sha256(convert_to(seed || ':' || user_id, 'UTF8')) AS ticket
    ) AS drawn
    WHERE kind = 'lottery'
) AS given
WHERE number IS NULL OR ticket IS NULL OR ticket < ticket_before;

-- name: entries_are_counted
-- Invariant 3, always: a lottery numbers its entries from 1 to their count, and its draw has as many
-- winners as it can.
SELECT coupon_id, entered, given.entries, given.highest, coupon_limit, winners
FROM campaign
LEFT JOIN (SELECT coupon_id, count(*) AS entries, max(number) AS highest
           FROM lottery_entry GROUP BY coupon_id) AS given
     USING (coupon_id)
WHERE kind = 'lottery'
  AND (entered <> coalesce(given.entries, 0)
       OR entered <> coalesce(given.highest, 0)
       OR (drawn_at IS NOT NULL AND winners <> least(coupon_limit, entered)));

-- name: winners_have_their_coupons
-- Invariant 3, at rest: a drawn lottery owes nobody a coupon.
SELECT coupon_id, winners, issued
FROM campaign
WHERE drawn_at IS NOT NULL AND issued <> winners;
