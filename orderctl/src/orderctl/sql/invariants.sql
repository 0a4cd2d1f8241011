-- Invariants over several schemas, and those of the orders' own. Nothing here runs in a service:
-- the operator alone reads all schemas. Participants commit before the orchestrator hears of it,
-- and the orchestrator commits before they hear from it, so a snapshot of all schemas never shows
-- an effect without its cause, and most of this holds at every moment.
-- A step that an operator settled is owed no more, and one that turned out to be done late is
-- about to be undone: both are left out.

-- name: sold_exactly_where_confirmed
-- Invariant 2, always: a reservation is sold where its order is confirmed and nowhere else, line
-- by line, at the prices that the order was told.
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
    FROM orders.saga
    WHERE state IN ('CONFIRMED', 'COMPLETING')
) AS ordered
FULL JOIN (SELECT * FROM stock.reservation WHERE state = 'COMMITTED') AS reservation
     ON reservation.order_id = ordered.order_id
WHERE ordered.commit_step IS DISTINCT FROM 'settled'
  AND (ordered.order_id IS NULL
       OR (reservation.order_id IS NULL AND ordered.state = 'CONFIRMED')
       OR reservation.lines <> ordered.lines);

-- name: nothing_reserved_for_ended_orders
-- Invariant 2, always: an order that was rejected or cancelled holds no units.
SELECT order_id, saga.state, reservation.state AS reservation_state
FROM orders.saga
JOIN stock.reservation USING (order_id)
WHERE saga.state IN ('REJECTED', 'CANCELLED')
  AND reservation.state IN ('RESERVED', 'COMMITTED')
  AND coalesce(progress::jsonb -> 'steps' ->> 'reserve', '')
      NOT IN ('settled', 'undoing_late', 'refused', 'absent');

-- name: reservations_are_what_was_ordered
-- Invariant 2, always: every reservation is of an order, and holds its products and quantities.
SELECT order_id, saga.state, reservation.state AS reservation_state,
       placed::jsonb -> 'lines' AS ordered_lines, reservation.lines AS reserved_lines
FROM stock.reservation
LEFT JOIN orders.saga USING (order_id)
WHERE saga.order_id IS NULL
   OR (reservation.lines <> '[]'::jsonb
       AND placed::jsonb -> 'lines' IS DISTINCT FROM (
           SELECT jsonb_agg(jsonb_build_array(line -> 0, line -> 1) ORDER BY place)
           FROM jsonb_array_elements(reservation.lines) WITH ORDINALITY AS item (line, place)));

-- name: coupons_follow_their_orders
-- Invariant 3, always: a coupon is used where its order is confirmed, with the discount that the
-- order was told; none is held or used by an order that ended otherwise, or for another order's
-- coupon or user.
SELECT coalesce(ordered.order_id, hold.order_id) AS order_id, ordered.state, ordered.coupon_id,
       hold.state AS hold_state, hold.coupon_id AS held_coupon_id, ordered.discount,
       hold.discount AS held_discount
FROM (
    SELECT order_id, user_id, state, placed ->> 'couponId' AS coupon_id,
           (progress ->> 'discount')::bigint AS discount,
           progress::jsonb -> 'steps' ->> 'hold' AS hold_step,
           progress::jsonb -> 'steps' ->> 'use' AS use_step
    FROM orders.saga
) AS ordered
FULL JOIN (SELECT * FROM coupon.coupon_hold WHERE state IN ('HELD', 'USED')) AS hold
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
SELECT coalesce(ordered.order_id, payment.order_id) AS order_id, ordered.state, ordered.total,
       payment.state AS payment_state, payment.captured, payment.refunded
FROM (
    SELECT order_id, state, user_id,
           progress::jsonb -> 'steps' ->> 'charge' AS charge_step,
           (SELECT sum((line ->> 1)::bigint
                       * (progress::jsonb -> 'prices' ->> (place - 1)::integer)::bigint)
            FROM jsonb_array_elements(placed::jsonb -> 'lines') WITH ORDINALITY
                 AS item (line, place))
           - coalesce((progress ->> 'discount')::bigint, 0) AS total
    FROM orders.saga
) AS ordered
FULL JOIN payment.payment ON payment.order_id = ordered.order_id
WHERE ordered.order_id IS NULL
   OR (ordered.state IN ('COMPLETING', 'CONFIRMED')
       AND (coalesce(payment.captured - payment.refunded, 0) <> ordered.total
            OR payment.user_id <> ordered.user_id))
   OR (ordered.state IN ('REJECTED', 'CANCELLED')
       AND payment.captured <> payment.refunded
       AND coalesce(ordered.charge_step, '')
           NOT IN ('settled', 'undoing_late', 'refused', 'absent'));

-- name: ended_orders_have_one_outcome
-- Invariant 6, always: an order has an outcome exactly from the moment at which it was told, and
-- it ended as it was told.
SELECT order_id, state, told_at, progress -> 'ending' ->> 'state' AS ending
FROM orders.saga
WHERE (told_at IS NOT NULL) <> (state IN ('COMPLETING', 'CONFIRMED', 'REJECTED', 'CANCELLED'))
   OR (state IN ('REJECTED', 'CANCELLED')
       AND progress -> 'ending' ->> 'state' IS DISTINCT FROM state)
   OR (state IN ('COMPLETING', 'CONFIRMED') AND progress -> 'ending' IS NOT NULL);

-- name: outcomes_are_told_once
-- Invariant 6, always: of the outcomes in the outbox each order has one, its own.
SELECT coalesce(saga.order_id, told.order_id) AS order_id, saga.state, told.outcomes
FROM (
    SELECT convert_from(key, 'UTF8') AS order_id, array_agg(DISTINCT message_type) AS outcomes
    FROM orders.outbox
    WHERE message_type IN ('OrderConfirmed', 'OrderRejected', 'OrderCancelled')
    GROUP BY key
) AS told
LEFT JOIN orders.saga USING (order_id)
WHERE told.outcomes IS DISTINCT FROM CASE saga.state
          WHEN 'COMPLETING' THEN ARRAY['OrderConfirmed']
          WHEN 'CONFIRMED' THEN ARRAY['OrderConfirmed']
          WHEN 'REJECTED' THEN ARRAY['OrderRejected']
          WHEN 'CANCELLED' THEN ARRAY['OrderCancelled']
      END;

-- name: history_is_gapless
-- Invariant 7, always: an order's history has each version from 1 to the order's own, and ends in
-- the order's state.
SELECT coalesce(saga.order_id, history.order_id) AS order_id, saga.version, saga.state,
       history.entries, history.first, history.last, history.last_state
FROM orders.saga
FULL JOIN (
    SELECT order_id, count(*) AS entries, min(version) AS first, max(version) AS last,
           (array_agg(state ORDER BY version DESC))[1] AS last_state
    FROM orders.saga_history GROUP BY order_id
) AS history USING (order_id)
WHERE saga.version IS DISTINCT FROM history.last
   OR saga.state IS DISTINCT FROM history.last_state
   OR history.first <> 1
   OR history.entries <> history.last;

-- name: history_is_legal
-- Invariant 7, always: an order goes from state to state as the saga's diagram says.
SELECT step.order_id, step.version, step.state_before, step.state, step.cause
FROM (
    SELECT order_id, version, state, cause,
           lag(state) OVER (PARTITION BY order_id ORDER BY version) AS state_before
    FROM orders.saga_history
) AS step
WHERE step.state IS DISTINCT FROM step.state_before
  AND NOT EXISTS (
      SELECT FROM (VALUES
          (NULL, 'PENDING'), (NULL, 'RESERVING'), (NULL, 'REJECTED'),
          ('PENDING', 'RESERVING'), ('PENDING', 'CANCELLED'),
          ('RESERVING', 'HOLDING'), ('RESERVING', 'AWAITING_PAYMENT'),
          ('RESERVING', 'CHARGING'), ('RESERVING', 'COMPLETING'),
          ('RESERVING', 'COMPENSATING'), ('RESERVING', 'REJECTED'), ('RESERVING', 'CANCELLED'),
          ('HOLDING', 'AWAITING_PAYMENT'), ('HOLDING', 'CHARGING'), ('HOLDING', 'COMPLETING'),
          ('HOLDING', 'COMPENSATING'),
          ('AWAITING_PAYMENT', 'CHARGING'), ('AWAITING_PAYMENT', 'COMPLETING'),
          ('AWAITING_PAYMENT', 'COMPENSATING'),
          ('CHARGING', 'COMPLETING'), ('CHARGING', 'COMPENSATING'),
          ('COMPLETING', 'CONFIRMED'),
          ('COMPENSATING', 'REJECTED'), ('COMPENSATING', 'CANCELLED')
      ) AS legal (state_before, state)
      WHERE legal.state = step.state
        AND legal.state_before IS NOT DISTINCT FROM step.state_before);

-- name: ended_orders_owe_nothing
-- Invariant 7, always: in an order that ended, no step is out; where it was compensated, every
-- step that was done is undone.
SELECT order_id, state, step, status
FROM orders.saga, json_each_text(progress -> 'steps') AS steps (step, status)
WHERE (state = 'CONFIRMED' AND status IN ('sent', 'undoing'))
   OR (state IN ('REJECTED', 'CANCELLED') AND status IN ('sent', 'done', 'undoing'));
