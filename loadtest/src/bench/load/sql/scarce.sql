-- What became of a scarce thing, as the operator.

-- name: units_taken
-- Of a product: sold, and held for orders that are not over.
SELECT sold, reserved FROM stock.product WHERE product_id = :product_id;

-- name: coupons_taken
-- Of a campaign: its own count, and its coupons with their highest number.
SELECT campaign.issued, count(coupon.user_id) AS coupons,
       coalesce(max(coupon.sequence), 0) AS last_sequence
FROM coupon.campaign LEFT JOIN coupon.coupon USING (coupon_id)
WHERE campaign.coupon_id = :coupon_id
GROUP BY campaign.issued;
