-- name: remember_messages
-- Insert the ids of a chunk, sorted by the caller; what comes back is new, the rest was known.
INSERT INTO inbox (message_type, message_id, fingerprint)
SELECT * FROM unnest(:types::text[], :ids::text[], :fingerprints::bytea[])
ON CONFLICT DO NOTHING
RETURNING message_type, message_id;

-- name: known_fingerprints
-- The fingerprints under which known ids were first seen.
SELECT message_type, message_id, fingerprint
FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest(:types::text[], :ids::text[]));

-- name: forget_messages!
-- A refused command has no effect, so its id stays free for a corrected or replayed one.
DELETE FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest(:types::text[], :ids::text[]));

-- name: keep_answers!
-- Beside the id of a request, for good.
UPDATE inbox SET answers = row.answers::jsonb
FROM unnest(:types::text[], :ids::text[], :answers::text[])
     AS row (message_type, message_id, answers)
WHERE inbox.message_type = row.message_type AND inbox.message_id = row.message_id;

-- name: kept_answers
-- What these requests were answered when they came first.
SELECT message_type, message_id, answers
FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest(:types::text[], :ids::text[]));

-- name: write_outbox
-- One chunk and its rows, in the order in which they are to be published.
WITH chunk AS (
    INSERT INTO outbox_chunk (owner, public, lease_until)
    VALUES (:owner::text, :public::boolean, now() + :lease_s::float8 * interval '1 second')
    RETURNING chunk_id, created_at
), written AS (
    INSERT INTO outbox
        (chunk_id, position, topic, key, message_type, message_id, value, traceparent, headers)
    SELECT chunk.chunk_id, row.position, row.topic, row.key, row.message_type, row.message_id,
           row.value, row.traceparent, row.headers
    FROM chunk,
         unnest(:topics::text[], :keys::bytea[], :types::text[], :ids::text[], :values::bytea[],
                :traceparents::text[], :headers::text[])
         WITH ORDINALITY
         AS row (topic, key, message_type, message_id, value, traceparent, headers, position)
)
SELECT chunk_id, created_at FROM chunk;

-- name: mark_published!
-- The chunk is on the broker. Its rows go later, in ranges.
UPDATE outbox_chunk SET published_at = now()
WHERE chunk_id = ANY (:chunk_ids::bigint[]) AND published_at IS NULL;

-- name: claim_unpublished
-- Chunks that a crash left: this instance's own once they are older than the grace that its relay
-- needs, others' after their lease. The claim is a new lease, so two sweepers never share one.
UPDATE outbox_chunk SET owner = :owner::text,
       lease_until = now() + :lease_s::float8 * interval '1 second'
WHERE chunk_id IN (
    SELECT chunk_id FROM outbox_chunk
    WHERE published_at IS NULL
      AND chunk_id <> ALL (:in_memory::bigint[])
      AND (lease_until < now()
           OR (owner = :owner::text
               AND created_at < now() - :own_grace_s::float8 * interval '1 second'))
    ORDER BY chunk_id
    LIMIT :chunks::integer
    FOR UPDATE SKIP LOCKED)
RETURNING chunk_id, public, created_at;

-- name: read_outbox
-- The rows of claimed chunks, in the order in which they were written.
SELECT chunk_id, topic, key, message_type, message_id, value, traceparent, headers
FROM outbox
WHERE chunk_id = ANY (:chunk_ids::bigint[])
ORDER BY chunk_id, position;

-- name: delete_published!
-- Rows of published chunks, a bounded number of chunks at a time: internal ones at once (the saga
-- sends again what is lost), public ones once they were kept long enough to survive a broker that
-- forgot them.
WITH expired AS (
    SELECT chunk_id FROM outbox_chunk
    WHERE public = :public::boolean
      AND published_at < now() - :keep_s::float8 * interval '1 second'
    ORDER BY published_at
    LIMIT :chunks::integer
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM outbox USING expired WHERE outbox.chunk_id = expired.chunk_id
)
DELETE FROM outbox_chunk USING expired WHERE outbox_chunk.chunk_id = expired.chunk_id;

-- name: outbox_backlog
-- What waits to be published, and since when, in seconds.
SELECT count(*) AS chunks,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_age_s
FROM (SELECT created_at FROM outbox_chunk WHERE published_at IS NULL
      ORDER BY chunk_id LIMIT :limit::integer) AS waiting;

-- name: forget_old_messages!
-- Inbox rows older than anything that could come again, a bounded number at a time.
DELETE FROM inbox
WHERE ctid IN (SELECT ctid FROM inbox
               WHERE received_at < now() - :keep_s::float8 * interval '1 second'
                 AND answers IS NULL
               LIMIT :rows::integer);

-- name: take_lease
-- Take or keep the lease; nothing comes back where another instance holds it.
INSERT INTO lease (name, holder, token, until)
VALUES (:name::text, :holder::text, 1, now() + :lease_s::float8 * interval '1 second')
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder,
    token  = lease.token + CASE WHEN lease.holder = excluded.holder THEN 0 ELSE 1 END,
    until  = excluded.until
WHERE lease.holder = excluded.holder OR lease.until < now()
RETURNING token;
