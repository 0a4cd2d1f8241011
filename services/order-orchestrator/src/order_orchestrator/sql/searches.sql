-- What operators look for. Orders that are stuck or under way have partial indexes of their own,
-- and are few beside those that have ended: all of them are looked at. Orders that have ended are
-- walked by age, a bounded number at a time, since an index on user or reason would cost every
-- order more than all searches together. Parameters that are NULL filter nothing. A reason is what
-- an order's line shows: why it is stuck, and where it isn't, that of its ending.

-- name: limit_search
-- For the statements of this transaction, in milliseconds.
SELECT set_config('statement_timeout', :timeout_ms::text, true);

-- name: search_newest
-- By age, the newest first, among the next so many orders: it stops once enough are found.
SELECT order_id, user_id, state, accepted_at, told_at, stuck_since, stuck_why,
       progress #>> '{ending,reason}' AS reason, accepted_at AS moment
FROM (SELECT * FROM saga
      WHERE (accepted_at, order_id) < (:after_at::timestamptz, :after_id::text)
      ORDER BY accepted_at DESC, order_id DESC
      LIMIT :looked_at::integer) AS next
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND (:reason::text IS NULL
       OR strpos(lower(coalesce(stuck_why, progress #>> '{ending,reason}')),
                 lower(:reason::text)) > 0)
ORDER BY accepted_at DESC, order_id DESC
LIMIT :orders::integer;

-- name: end_of_newest
-- The last of the orders that `search_newest` looks at; none where it comes to the end of all.
SELECT accepted_at, order_id FROM saga
WHERE (accepted_at, order_id) < (:after_at::timestamptz, :after_id::text)
ORDER BY accepted_at DESC, order_id DESC
OFFSET :looked_at::integer - 1 LIMIT 1;

-- name: search_oldest
-- By age, the oldest first, up to a moment.
SELECT order_id, user_id, state, accepted_at, told_at, stuck_since, stuck_why,
       progress #>> '{ending,reason}' AS reason, accepted_at AS moment
FROM (SELECT * FROM saga
      WHERE (accepted_at, order_id) > (:after_at::timestamptz, :after_id::text)
        AND accepted_at <= :accepted_before::timestamptz
      ORDER BY accepted_at, order_id
      LIMIT :looked_at::integer) AS next
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND (:reason::text IS NULL
       OR strpos(lower(coalesce(stuck_why, progress #>> '{ending,reason}')),
                 lower(:reason::text)) > 0)
ORDER BY accepted_at, order_id
LIMIT :orders::integer;

-- name: end_of_oldest
-- The last of the orders that `search_oldest` looks at; none where it comes to the end of all.
SELECT accepted_at, order_id FROM saga
WHERE (accepted_at, order_id) > (:after_at::timestamptz, :after_id::text)
  AND accepted_at <= :accepted_before::timestamptz
ORDER BY accepted_at, order_id
OFFSET :looked_at::integer - 1 LIMIT 1;

-- name: search_under_way
-- Those that have a timer, wait for admission or are stuck. The place is negative where the newest
-- come first.
SELECT * FROM (
    SELECT order_id, user_id, state, accepted_at, told_at, stuck_since, stuck_why,
           progress #>> '{ending,reason}' AS reason, accepted_at AS moment,
           extract(epoch FROM accepted_at) * :direction::integer AS place
    FROM saga
    WHERE timer_at IS NOT NULL OR pending_since IS NOT NULL OR stuck_since IS NOT NULL
) AS under_way
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND accepted_at <= :accepted_before::timestamptz
  AND (:reason::text IS NULL
       OR strpos(lower(coalesce(stuck_why, reason)), lower(:reason::text)) > 0)
  AND (place, order_id)
      > (extract(epoch FROM :after_at::timestamptz) * :direction::integer, :after_id::text)
ORDER BY place, order_id
LIMIT :orders::integer;

-- name: search_stuck
-- Those that wait for an operator, by how long they do. Moments are told in whole milliseconds.
SELECT * FROM (
    SELECT order_id, user_id, state, accepted_at, told_at, stuck_since, stuck_why,
           progress #>> '{ending,reason}' AS reason, stuck_since AS moment,
           extract(epoch FROM stuck_since) * :direction::integer AS place
    FROM saga
    WHERE stuck_since IS NOT NULL
) AS stuck
WHERE (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND accepted_at <= :accepted_before::timestamptz
  AND (:reason::text IS NULL OR strpos(lower(stuck_why), lower(:reason::text)) > 0)
  AND (:stuck_before::timestamptz IS NULL
       OR stuck_since < :stuck_before::timestamptz + interval '1 millisecond')
  AND (place, order_id)
      > (extract(epoch FROM :after_at::timestamptz) * :direction::integer, :after_id::text)
ORDER BY place, order_id
LIMIT :orders::integer;

-- name: count_under_way
-- By state and why, those that are stuck apart, the most first.
SELECT state, stuck_since IS NOT NULL AS stuck,
       coalesce(stuck_why, progress #>> '{ending,reason}') AS why, count(*) AS orders
FROM saga
WHERE (timer_at IS NOT NULL OR pending_since IS NOT NULL OR stuck_since IS NOT NULL)
  AND (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND accepted_at <= :accepted_before::timestamptz
  AND (:stuck_before::timestamptz IS NULL
       OR stuck_since < :stuck_before::timestamptz + interval '1 millisecond')
  AND (:reason::text IS NULL
       OR strpos(lower(coalesce(stuck_why, progress #>> '{ending,reason}')),
                 lower(:reason::text)) > 0)
GROUP BY 1, 2, 3
ORDER BY orders DESC, state, why
LIMIT :groups::integer;

-- name: group_stuck
-- By why they are stuck and which steps are out, the most first, each with the one that is stuck
-- longest.
SELECT state, stuck_why AS why, steps, count(*) AS orders, min(stuck_since) AS since,
       max(stuck_since) AS until, (array_agg(order_id ORDER BY stuck_since))[1] AS example
FROM saga CROSS JOIN LATERAL (
    SELECT string_agg(step || CASE WHEN status = 'sent' THEN ':do' ELSE ':undo' END, ', '
                      ORDER BY step) AS steps
    FROM json_each_text(CASE WHEN json_typeof(progress -> 'steps') = 'object'
                             THEN progress -> 'steps' END) AS written (step, status)
    WHERE status IN ('sent', 'undoing', 'undoing_late')) AS out
WHERE stuck_since IS NOT NULL
  AND (:states::text[] IS NULL OR state = ANY (:states::text[]))
  AND (:user_id::text IS NULL OR user_id = :user_id::text)
  AND accepted_at <= :accepted_before::timestamptz
  AND (:stuck_before::timestamptz IS NULL
       OR stuck_since < :stuck_before::timestamptz + interval '1 millisecond')
  AND (:reason::text IS NULL OR strpos(lower(stuck_why), lower(:reason::text)) > 0)
GROUP BY state, stuck_why, steps
ORDER BY orders DESC, state, why
LIMIT :groups::integer;
