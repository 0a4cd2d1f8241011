-- What orders alone can tell. Steps are read from `progress`, as in `records.py`.

-- name: history_is_gapless
-- Invariant 7, always: a saga's history has one row for each of its versions, from 1 on, the last
-- of them in the saga's state.
-- In passes: by order, of saga, saga_history.
SELECT order_id, saga.version, told.lowest, told.highest, told.entries, saga.state,
       told.last_state
FROM saga
LEFT JOIN (
    SELECT order_id, min(version) AS lowest, max(version) AS highest, count(*) AS entries,
           (array_agg(state ORDER BY version DESC))[1] AS last_state
    FROM saga_history GROUP BY order_id
) AS told USING (order_id)
WHERE told.lowest IS DISTINCT FROM 1
   OR told.highest <> saga.version
   OR told.entries <> saga.version
   OR told.last_state <> saga.state;

-- name: history_is_legal
-- Invariant 7, always: a saga goes from state to state as the diagram says, or stays.
-- In passes: by order, of saga_history.
SELECT order_id, version, before, state
FROM (
    SELECT order_id, version, state,
           lag(state, 1, 'nothing') OVER (PARTITION BY order_id ORDER BY version) AS before
    FROM saga_history
) AS change
WHERE state <> before AND (before, state) NOT IN (
    VALUES ('nothing', 'PENDING'), ('nothing', 'RESERVING'), ('nothing', 'REJECTED'),
           ('PENDING', 'RESERVING'), ('PENDING', 'CANCELLED'),
           ('RESERVING', 'HOLDING'), ('RESERVING', 'AWAITING_PAYMENT'),
           ('RESERVING', 'CHARGING'), ('RESERVING', 'COMPLETING'),
           ('RESERVING', 'COMPENSATING'), ('RESERVING', 'REJECTED'),
           ('RESERVING', 'CANCELLED'),
           ('HOLDING', 'AWAITING_PAYMENT'), ('HOLDING', 'CHARGING'),
           ('HOLDING', 'COMPLETING'), ('HOLDING', 'COMPENSATING'),
           ('AWAITING_PAYMENT', 'CHARGING'), ('AWAITING_PAYMENT', 'COMPLETING'),
           ('AWAITING_PAYMENT', 'COMPENSATING'),
           ('CHARGING', 'COMPLETING'), ('CHARGING', 'COMPENSATING'),
           ('COMPLETING', 'CONFIRMED'),
           ('COMPENSATING', 'REJECTED'), ('COMPENSATING', 'CANCELLED'));

-- name: steps_fit_their_state
-- Invariant 7, always: every step done in a saga that was given up is undone or its undo is out,
-- and every step of a confirmed one is done. A step that an operator settled is neither.
-- In passes: by order, of saga.
SELECT order_id, state, stuck_why, step.key AS step, step.value AS status
FROM saga, json_each_text(progress -> 'steps') AS step
WHERE CASE
    WHEN state = 'PENDING' THEN true
    WHEN state IN ('REJECTED', 'CANCELLED') THEN step.value IN ('sent', 'done', 'undoing')
    WHEN state = 'COMPENSATING' THEN step.value IN ('sent', 'done')
    WHEN state = 'CONFIRMED' THEN step.value NOT IN ('done', 'skipped', 'settled')
    WHEN state = 'COMPLETING' AND step.key IN ('use', 'commit')
        THEN step.value NOT IN ('sent', 'done', 'skipped')
    WHEN state = 'COMPLETING' THEN step.value NOT IN ('done', 'skipped')
    WHEN state = 'AWAITING_PAYMENT' THEN step.value NOT IN ('done', 'skipped')
    ELSE step.value NOT IN ('sent', 'done', 'skipped')
END;

-- name: confirmed_sagas_did_every_step
-- Invariant 7, always: an order that was confirmed reserved, and left no step out.
-- In passes: by order, of saga.
SELECT order_id, state, progress -> 'steps' AS steps
FROM saga
WHERE state IN ('COMPLETING', 'CONFIRMED')
  AND NOT jsonb(progress -> 'steps') ?& ARRAY['reserve', 'hold', 'charge', 'use', 'commit'];

-- name: outcomes_are_told_once
-- Invariant 6, always: a saga tells its outcome in the version that passes the pivot or ends it,
-- and in no other.
-- In passes: by order, of saga, saga_history.
SELECT saga.order_id, saga.state, saga.told_version, outcome.versions
FROM saga
LEFT JOIN (
    SELECT order_id, array_agg(version ORDER BY version) AS versions
    FROM (
        SELECT order_id, version, state,
               lag(state) OVER (PARTITION BY order_id ORDER BY version) AS before
        FROM saga_history
    ) AS change
    WHERE state IN ('COMPLETING', 'REJECTED', 'CANCELLED') AND before IS DISTINCT FROM state
    GROUP BY order_id
) AS outcome USING (order_id)
WHERE outcome.versions IS DISTINCT FROM
      CASE WHEN saga.told_version IS NOT NULL THEN ARRAY[saga.told_version] END;

-- name: outcomes_were_written
-- Invariant 6, always: what a saga told lies in the outbox, which keeps it for an hour at least,
-- and no other outcome does.
-- In passes: left out, since it reads all events of a day.
SELECT saga.order_id, saga.state, saga.told_at, said.outcomes
FROM saga
FULL JOIN (
    SELECT key AS order_id, array_agg(DISTINCT message_type) AS outcomes
    FROM outbox_message
    WHERE topic = 'orders.events.v1'
      AND message_type IN ('OrderConfirmed', 'OrderRejected', 'OrderCancelled')
    GROUP BY key
) AS said USING (order_id)
WHERE (saga.told_at > clock_timestamp() - interval '1 hour' OR said.outcomes IS NOT NULL)
  AND said.outcomes IS DISTINCT FROM ARRAY[
      CASE WHEN saga.state IN ('COMPLETING', 'CONFIRMED') THEN 'OrderConfirmed'
           WHEN saga.state = 'REJECTED' THEN 'OrderRejected'
           WHEN saga.state = 'CANCELLED' THEN 'OrderCancelled' END];

-- name: undos_are_in_reverse
-- Invariant 7, always: the undos of a saga are written in reverse order of its steps: charge, hold,
-- reserve. Where they lie is the outbox, until they are published. What was done late is undone by
-- itself, whenever that turns up.
SELECT order_id, written.undos
FROM (
    SELECT order_id, array_agg(message_type ORDER BY first) AS undos,
           array_agg(place ORDER BY first) AS places
    FROM (
        SELECT chunk_id, key AS order_id, message_type, min(position) AS first,
               array_position(ARRAY['RefundPayment', 'RestoreCoupon', 'ReleaseStock'],
                              message_type) AS place
        FROM (SELECT chunk_id FROM outbox WHERE NOT public AND published_at IS NULL) AS waiting
        JOIN outbox_message USING (chunk_id)
        WHERE message_type IN ('RefundPayment', 'RestoreCoupon', 'ReleaseStock')
        GROUP BY chunk_id, key, message_type
    ) AS undo
    GROUP BY chunk_id, order_id
) AS written
JOIN saga USING (order_id)
WHERE written.places <> ARRAY(SELECT place FROM unnest(written.places) AS place ORDER BY place)
  AND strpos(saga.history, 'done late, undone') = 0;

-- name: nothing_is_forgotten
-- Invariant 7, always: who works on an order will come back to it: a saga that is under way has a
-- timer, unless an operator was asked.
-- In passes: by order, of saga.
SELECT order_id, state, stuck_why, timer_at
FROM saga
WHERE stuck_since IS NULL
  AND timer_at IS NULL
  AND (state NOT IN ('PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLED')
       OR progress #>> '{steps}' LIKE '%"undoing_late"%');

-- name: waiting_is_counted
-- Invariant 7, always: admission counts exactly the sagas to which a reply is owed, but for those
-- that hang at the gateway: whose charge or refund alone is out, and was sent again.
-- In passes: by order, of saga.
SELECT order_id, state, stuck_why, waiting
FROM saga
WHERE waiting <> (
    stuck_since IS NULL
    AND (state IN ('RESERVING', 'HOLDING', 'CHARGING', 'COMPLETING', 'COMPENSATING')
         OR progress #>> '{steps}' LIKE '%"undoing_late"%')
    AND NOT (coalesce(progress -> 'payment', placed -> 'payment') ->> 'method' = 'gateway'
             AND coalesce((progress ->> 'sends')::integer, 0) > 1
             AND (SELECT array_agg(step.name)
                  FROM json_each_text(progress -> 'steps') AS step (name, status)
                  WHERE step.status IN ('sent', 'undoing', 'undoing_late')) = '{charge}'));

-- name: sagas_have_ended
-- Invariant 6, at rest: every order has its outcome and owes nothing, or awaits its payment.
SELECT order_id, state, stuck_why, accepted_at, progress -> 'steps' AS steps
FROM saga
WHERE state NOT IN ('AWAITING_PAYMENT', 'CONFIRMED', 'REJECTED', 'CANCELLED')
   OR stuck_since IS NOT NULL
   OR progress #>> '{steps}' LIKE '%"undoing%';

-- name: parked_commands_have_no_order
-- Invariant 6, at rest: a command that came before its order has been given to it.
SELECT order_id, command_type, command_id, parked_at
FROM parked_command JOIN saga USING (order_id);
