-- name: units_are_conserved
-- Invariant 1, always: available + reserved + sold = received for each product, none negative.
SELECT product_id, available, reserved, sold, received
FROM product
WHERE available + reserved + sold <> received OR least(available, reserved, sold) < 0;

-- name: ledger_agrees
-- Invariant 1, always: the movement ledger gives the same numbers as the counters, and moves no
-- unit of a product that is not there.
SELECT product_id, available, reserved, sold, received,
       ledger.reserved_units, ledger.sold_units, ledger.received_units
FROM product
FULL JOIN (
    SELECT product_id,
           sum(quantity) FILTER (WHERE kind IN ('received', 'adjusted')) AS received_units,
           coalesce(sum(quantity) FILTER (WHERE kind = 'reserved'), 0)
           - coalesce(sum(quantity) FILTER (WHERE kind IN ('committed', 'released')), 0)
               AS reserved_units,
           coalesce(sum(quantity) FILTER (WHERE kind = 'committed'), 0) AS sold_units
    FROM stock_movement GROUP BY product_id
) AS ledger USING (product_id)
WHERE product.product_id IS NULL
   OR received <> coalesce(ledger.received_units, 0)
   OR reserved <> coalesce(ledger.reserved_units, 0)
   OR sold <> coalesce(ledger.sold_units, 0);

-- name: reservations_hold_what_is_reserved
-- Invariant 2, always: what live reservations hold is what products say is reserved, and what
-- committed ones hold is sold; nothing is held of a product that is not there.
SELECT product_id, product.reserved, product.sold, held.reserved_units, held.sold_units
FROM product
FULL JOIN (
    SELECT line ->> 0 AS product_id,
           coalesce(sum((line ->> 1)::bigint) FILTER (WHERE state = 'RESERVED'), 0)
               AS reserved_units,
           coalesce(sum((line ->> 1)::bigint) FILTER (WHERE state = 'COMMITTED'), 0)
               AS sold_units
    FROM reservation, jsonb_array_elements(lines) AS line
    GROUP BY 1
) AS held USING (product_id)
WHERE product.product_id IS NULL
   OR product.reserved <> coalesce(held.reserved_units, 0)
   OR product.sold <> coalesce(held.sold_units, 0);

-- name: one_live_reservation
-- Invariant 2, always: an order has at most one live reservation of a product: one row, which names
-- each product once.
-- In passes: by order, of reservation.
SELECT order_id, line ->> 0 AS product_id, count(*) AS reservations
FROM reservation, jsonb_array_elements(lines) AS line
WHERE state IN ('RESERVED', 'COMMITTED')
GROUP BY order_id, line ->> 0
HAVING count(*) > 1;
