-- name: database_time
-- The clock that all deadlines run by.
SELECT clock_timestamp();

-- name: lock_sagas
-- The versions of a chunk's sagas, locked in key order, and the clock once all locks are held: the
-- last row has it. Most sagas are remembered by the instance that wrote them last, and need not be
-- read again.
WITH locked AS (
    SELECT order_id, version, stuck_since IS NOT NULL AS stuck
    FROM saga
    WHERE order_id = ANY (:order_ids::text[])
    ORDER BY order_id
    FOR UPDATE
)
SELECT order_id, version, stuck, NULL AS now FROM locked
UNION ALL
SELECT NULL, NULL, NULL, clock_timestamp();

-- name: read_sagas
-- Sagas that are locked by now and not remembered.
SELECT order_id, user_id, fingerprint, fingerprint_version, traceparent, accepted_at, placed,
       definition_version, state, version, timer_at, stuck_since, stuck_why, told_version,
       told_at, progress
FROM saga
WHERE order_id = ANY (:order_ids::text[]);

-- name: due_sagas
-- Sagas whose timer has passed, longest overdue first; those that another instance works on are
-- that instance's.
SELECT order_id FROM saga
WHERE timer_at <= clock_timestamp()
ORDER BY timer_at
LIMIT :sagas::integer
FOR UPDATE SKIP LOCKED;

-- name: pending_sagas
-- Sagas that wait for admission, oldest first.
SELECT order_id FROM saga
WHERE pending_since IS NOT NULL AND stuck_since IS NULL
ORDER BY pending_since
LIMIT :sagas::integer
FOR UPDATE SKIP LOCKED;

-- name: count_waiting
-- How many sagas wait for a reply, and whether any waits for admission. One that can't be read
-- waits for an operator, and must not make a queue of those after it.
SELECT (SELECT count(*) FROM saga WHERE waiting) AS waiting,
       EXISTS (SELECT FROM saga
               WHERE pending_since IS NOT NULL AND stuck_since IS NULL) AS pending;

-- name: insert_sagas!
-- New sagas. What another instance stored first is left as it is: the caller counts.
INSERT INTO saga (order_id, user_id, fingerprint, fingerprint_version, traceparent, accepted_at,
                  placed, definition_version, state, version, timer_at, stuck_since, stuck_why,
                  told_version, told_at, progress, waiting, history, pending_since)
SELECT row.*, CASE WHEN state = 'PENDING' THEN accepted_at END
FROM unnest(:order_ids::text[], :user_ids::text[], :fingerprints::bytea[],
            :fingerprint_versions::integer[], :traceparents::text[], :accepted_ats::timestamptz[],
            :placeds::json[], :definition_versions::integer[], :states::text[],
            :versions::bigint[], :timer_ats::timestamptz[], :stuck_sinces::timestamptz[],
            :stuck_whys::text[], :told_versions::bigint[], :told_ats::timestamptz[],
            :progresses::json[], :waitings::boolean[], :histories::text[])
     AS row (order_id, user_id, fingerprint, fingerprint_version, traceparent, accepted_at, placed,
             definition_version, state, version, timer_at, stuck_since, stuck_why, told_version,
             told_at, progress, waiting, history)
ON CONFLICT DO NOTHING;

-- name: update_sagas!
-- Locked sagas by compare and swap, and what happened beside what is told of them already. One that
-- another instance changed meanwhile is left as it is: the caller counts.
UPDATE saga
SET state = row.state, version = row.version, timer_at = row.timer_at,
    stuck_since = row.stuck_since, stuck_why = row.stuck_why, told_version = row.told_version,
    told_at = row.told_at, progress = row.progress, waiting = row.waiting,
    history = saga.history || row.history,
    pending_since = CASE WHEN row.state = 'PENDING' THEN saga.accepted_at END
FROM unnest(:order_ids::text[], :old_versions::bigint[], :states::text[], :versions::bigint[],
            :timer_ats::timestamptz[], :stuck_sinces::timestamptz[], :stuck_whys::text[],
            :told_versions::bigint[], :told_ats::timestamptz[], :progresses::json[],
            :waitings::boolean[], :histories::text[])
     AS row (order_id, old_version, state, version, timer_at, stuck_since, stuck_why,
             told_version, told_at, progress, waiting, history)
WHERE saga.order_id = row.order_id AND saga.version = row.old_version;

-- name: set_aside!
-- A saga that this code can't read or work on: no timer touches it again, and operators see it.
UPDATE saga
SET timer_at = NULL, waiting = false, stuck_since = clock_timestamp(), stuck_why = :why::text
WHERE order_id = :order_id::text AND stuck_since IS NULL;

-- name: park_commands!
-- Commands that came before their order.
INSERT INTO parked_command (order_id, command_type, command_id, body, traceparent)
SELECT order_id, command_type, command_id, body::json, traceparent
FROM unnest(:order_ids::text[], :types::text[], :command_ids::text[], :bodies::text[],
            :traceparents::text[])
     AS row (order_id, command_type, command_id, body, traceparent)
ON CONFLICT DO NOTHING;

-- name: unpark_commands
-- The commands that waited for these orders, in the order in which they came.
WITH taken AS (
    DELETE FROM parked_command WHERE order_id = ANY (:order_ids::text[])
    RETURNING order_id, command_type, command_id, body, traceparent, parked_at
)
SELECT order_id, command_type, body, traceparent FROM taken ORDER BY parked_at, command_id;

-- name: parked_for_known_orders
-- Orders that are there by now, though a command was parked for them: it came by another
-- instance at the same moment. Those parked longer ago were looked at before.
SELECT DISTINCT order_id
FROM (SELECT order_id FROM parked_command
      WHERE parked_at > clock_timestamp() - :since_s::float8 * interval '1 second'
      OFFSET 0) AS recent
JOIN saga USING (order_id)
LIMIT :orders::integer;

-- name: expire_parked
-- Commands whose order never came.
DELETE FROM parked_command
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM parked_command
    WHERE parked_at < clock_timestamp() - :keep_s::float8 * interval '1 second'
    ORDER BY parked_at
    LIMIT :commands::integer
    FOR UPDATE SKIP LOCKED))
RETURNING order_id, command_type, command_id, body, traceparent;

-- name: count_states
-- How many sagas are under way, by state; those at rest are not counted.
SELECT state, count(*) AS sagas FROM saga
WHERE timer_at IS NOT NULL OR pending_since IS NOT NULL OR stuck_since IS NOT NULL
GROUP BY state;

-- name: count_stuck
SELECT count(*) FROM saga WHERE stuck_since IS NOT NULL;

-- name: read_saga
SELECT order_id, user_id, fingerprint, fingerprint_version, traceparent, accepted_at, placed,
       definition_version, state, version, timer_at, stuck_since, stuck_why, told_version,
       told_at, progress
FROM saga WHERE order_id = :order_id::text;

-- name: read_history
SELECT version, state, cause, at, note FROM saga_history
WHERE order_id = :order_id::text ORDER BY version;

-- name: list_stuck
-- Stuck sagas, longest stuck first.
SELECT order_id, state, stuck_since, stuck_why, accepted_at FROM saga
WHERE stuck_since IS NOT NULL
ORDER BY stuck_since
LIMIT :sagas::integer;
