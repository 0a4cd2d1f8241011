-- Invariants over several schemas: the operator alone reads them all. Participants commit before
-- the orchestrator hears of it, and the orchestrator commits before they hear from it, so that a
-- snapshot never shows an effect without its cause, and all of this holds at every moment.
-- A step that an operator settled is owed no more, and one that turned out to be done late is
-- about to be undone: both are left out. Tables stand without their schemas, so that a pass can
-- narrow them.

-- name: sold_exactly_where_confirmed
-- Invariant 2, always: a reservation is sold where its order is confirmed and nowhere else, line
-- by line, at the prices that the order was told.
-- In passes: by order, of saga, reservation.
SELECT coalesce(ordered.order_id, reservation.order_id) AS order_id, ordered.state,
       reservation.state AS reservation_state, ordered.lines, reservation.lines AS sold_lines
FROM (
    SELECT order_id, state,
           progress::jsonb -> 'steps' ->> 'commit' AS commit_step,
           (SELECT jsonb_agg(line || jsonb_build_array(
                                progress::jsonb -> 'prices' -> (place - 1)::integer)
                             ORDER BY place)
            FROM jsonb_array_elements(placed::jsonb -> 'lines') WITH ORDINALITY
                 AS item (line, place)) AS lines
    FROM saga
    WHERE state IN ('CONFIRMED', 'COMPLETING')
) AS ordered
FULL JOIN (SELECT * FROM reservation WHERE state = 'COMMITTED') AS reservation
     ON reservation.order_id = ordered.order_id
WHERE ordered.commit_step IS DISTINCT FROM 'settled'
  AND (ordered.order_id IS NULL
       OR (reservation.order_id IS NULL AND ordered.state = 'CONFIRMED')
       OR reservation.lines <> ordered.lines);

-- name: nothing_reserved_for_ended_orders
-- Invariant 2, always: an order that was rejected or cancelled holds no units.
-- In passes: by order, of saga, reservation.
SELECT order_id, saga.state, reservation.state AS reservation_state
FROM saga
JOIN reservation USING (order_id)
WHERE saga.state IN ('REJECTED', 'CANCELLED')
  AND reservation.state IN ('RESERVED', 'COMMITTED')
  AND coalesce(progress::jsonb -> 'steps' ->> 'reserve', '')
      NOT IN ('settled', 'undoing_late', 'refused', 'absent');

-- name: reservations_are_what_was_ordered
-- Invariant 2, always: every reservation is of an order, and holds its products and quantities.
-- In passes: by order, of saga, reservation.
SELECT order_id, saga.state, reservation.state AS reservation_state,
       placed::jsonb -> 'lines' AS ordered_lines, reservation.lines AS reserved_lines
FROM reservation
LEFT JOIN saga USING (order_id)
WHERE saga.order_id IS NULL
   OR (reservation.lines <> '[]'::jsonb
       AND placed::jsonb -> 'lines' IS DISTINCT FROM (
           SELECT jsonb_agg(jsonb_build_array(line -> 0, line -> 1) ORDER BY place)
           FROM jsonb_array_elements(reservation.lines) WITH ORDINALITY AS item (line, place)));

-- name: coupons_follow_their_orders
-- Invariant 3, always: a coupon is used where its order is confirmed, with the discount that the
-- order was told; none is held or used by an order that ended otherwise, or for another order's
-- coupon or user.
-- In passes: by order, of saga, coupon_hold.
SELECT coalesce(ordered.order_id, hold.order_id) AS order_id, ordered.state, ordered.coupon_id,
       hold.state AS hold_state, hold.coupon_id AS held_coupon_id, ordered.discount,
       hold.discount AS held_discount
FROM (
    SELECT order_id, user_id, state, placed ->> 'couponId' AS coupon_id,
           (progress ->> 'discount')::bigint AS discount,
           progress::jsonb -> 'steps' ->> 'hold' AS hold_step,
           progress::jsonb -> 'steps' ->> 'use' AS use_step
    FROM saga
) AS ordered
FULL JOIN (SELECT * FROM coupon_hold WHERE state IN ('HELD', 'USED')) AS hold
     ON hold.order_id = ordered.order_id
WHERE ordered.order_id IS NULL
   OR (hold.order_id IS NOT NULL
       AND (hold.coupon_id, hold.user_id) IS DISTINCT FROM (ordered.coupon_id, ordered.user_id))
   OR (ordered.state IN ('REJECTED', 'CANCELLED') AND hold.order_id IS NOT NULL
       AND coalesce(ordered.hold_step, '')
           NOT IN ('settled', 'undoing_late', 'refused', 'absent'))
   OR (ordered.state IN ('COMPLETING', 'CONFIRMED') AND hold.order_id IS NOT NULL
       AND hold.discount IS DISTINCT FROM ordered.discount)
   OR (ordered.state = 'CONFIRMED' AND ordered.coupon_id IS NOT NULL
       AND hold.state IS DISTINCT FROM 'USED'
       AND ordered.use_step IS DISTINCT FROM 'settled');

-- name: captured_is_the_total
-- Invariant 5, always: what was captured and not refunded is the order's total where it is
-- confirmed, and nothing where it ended otherwise or is not there at all.
-- In passes: by order, of saga, payment.
SELECT coalesce(ordered.order_id, payment.order_id) AS order_id, ordered.state, ordered.total,
       payment.state AS payment_state, payment.captured, payment.refunded
FROM (
    SELECT order_id, state, user_id,
           progress::jsonb -> 'steps' ->> 'charge' AS charge_step,
           (SELECT CASE WHEN bool_and(progress::jsonb -> 'prices' ->> (place - 1)::integer IS NOT NULL)
                       THEN sum((line ->> 1)::bigint
                                * (progress::jsonb -> 'prices' ->> (place - 1)::integer)::bigint)
                  END
            FROM jsonb_array_elements(placed::jsonb -> 'lines') WITH ORDINALITY
                 AS item (line, place))
           - coalesce((progress ->> 'discount')::bigint, 0) AS total
    FROM saga
) AS ordered
FULL JOIN payment ON payment.order_id = ordered.order_id
WHERE ordered.order_id IS NULL
   OR (ordered.state IN ('COMPLETING', 'CONFIRMED')
       AND (coalesce(payment.captured - payment.refunded, 0) IS DISTINCT FROM ordered.total
            OR payment.user_id <> ordered.user_id))
   OR (ordered.state IN ('REJECTED', 'CANCELLED')
       AND payment.captured <> payment.refunded
       AND coalesce(ordered.charge_step, '')
           NOT IN ('settled', 'undoing_late', 'refused', 'absent'));
