-- name: gates
-- What the gate of each campaign that gives out coupons holds once nothing is under way: the fields
-- of a hash.
SELECT '{coupon}:gate:' || coupon_id AS key,
       json_build_object('taken', issued::text, 'limit', coupon_limit::text,
                         'fence', fence::text) AS fields
FROM campaign JOIN campaign_life USING (coupon_id)
WHERE issued < coupon_limit AND kind IN ('first_come', 'conditional') AND life = 'open';
