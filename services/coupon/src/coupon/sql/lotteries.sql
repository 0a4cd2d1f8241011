-- name: entered
-- Which of these users entered already. Their campaign is locked by now, so nobody adds another.
SELECT entry.coupon_id, entry.user_id
FROM unnest(:coupon_ids::text[], :user_ids::text[]) AS wanted (coupon_id, user_id)
JOIN lottery_entry AS entry USING (coupon_id, user_id);

-- name: read_seeds
-- The seeds of these lotteries.
SELECT coupon_id, seed FROM lottery_seed WHERE coupon_id = ANY (:coupon_ids::text[]);

-- name: insert_seeds!
INSERT INTO lottery_seed (coupon_id, seed)
SELECT * FROM unnest(:coupon_ids::text[], :seeds::text[]);

-- name: insert_entries!
-- Under the campaign's lock.
INSERT INTO lottery_entry (coupon_id, user_id, number, command_id, entered_at)
SELECT *
FROM unnest(:coupon_ids::text[], :user_ids::text[], :numbers::integer[], :command_ids::text[],
            :entered_ats::timestamptz[]);

-- name: insert_tickets!
-- In the order of which the draw goes: an index keeps it, so that a draw sorts nothing.
INSERT INTO lottery_ticket (coupon_id, ticket, user_id)
SELECT coupon_id, decode(ticket, 'hex'), user_id
FROM unnest(:coupon_ids::text[], :tickets::text[], :user_ids::text[])
     AS row (coupon_id, ticket, user_id);

-- name: lock_owing
-- A drawn lottery that still owes coupons to its winners, unless another instance is at it. Any of
-- them, so that one which can't be served keeps no other waiting.
SELECT coupon_id, issued, winners
FROM campaign
WHERE issued < winners
ORDER BY random()
LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: next_winners
-- Those who come next in the order of tickets, behind the last one who got a coupon.
WITH last AS (
    SELECT ticket, user_id
    FROM coupon
    JOIN lottery_seed USING (coupon_id)
    CROSS JOIN LATERAL (
        SELECT sha256(convert_to(seed || ':' || user_id, 'UTF8')) AS ticket
    ) AS drawn
    WHERE coupon_id = :coupon_id AND sequence = :issued::integer
)
SELECT ticket.user_id, entry.command_id
FROM (
    SELECT coupon_id, ticket, user_id
    FROM lottery_ticket
    WHERE coupon_id = :coupon_id
      AND (ticket, user_id) > (coalesce((SELECT ticket FROM last), ''),
                               coalesce((SELECT user_id FROM last), ''))
    ORDER BY ticket, user_id
    LIMIT :at_most::integer
) AS ticket
JOIN lottery_entry AS entry USING (coupon_id, user_id)
ORDER BY ticket, user_id;

-- name: issue_to_winners!
-- Rows are locked by now.
UPDATE campaign SET issued = :issued::integer WHERE coupon_id = :coupon_id;
