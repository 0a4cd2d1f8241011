-- name: remember_messages
-- The ids of a chunk go in, in key order; those that are known come back, with the fingerprint
-- under which they were first seen. A look before the insert is cheaper than ON CONFLICT: what
-- comes between the two is a broken key, and the caller starts over.
WITH looked AS MATERIALIZED (
    SELECT row.message_type, row.message_id, row.fingerprint, inbox.fingerprint AS known
    FROM unnest(:types::text[], :ids::text[], :fingerprints::bytea[])
         AS row (message_type, message_id, fingerprint)
    LEFT JOIN inbox ON inbox.message_id = row.message_id AND inbox.message_type = row.message_type
), remembered AS (
    INSERT INTO inbox (message_type, message_id, fingerprint)
    SELECT message_type, message_id, fingerprint FROM looked WHERE known IS NULL
    ORDER BY message_id COLLATE "C", message_type COLLATE "C"
)
SELECT message_type, message_id, known FROM looked WHERE known IS NOT NULL;

-- name: known_messages
-- Which of these ids are known, whatever their content.
SELECT inbox.message_type, inbox.message_id
FROM unnest(:types::text[], :ids::text[]) AS row (message_type, message_id)
JOIN inbox ON inbox.message_id = row.message_id AND inbox.message_type = row.message_type;

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
-- One chunk for internal messages and one for public ones, whichever there are.
INSERT INTO outbox (owner, public, lease_until, messages)
SELECT :owner::text, row.public, now() + :lease_s::float8 * interval '1 second',
       row.messages::json
FROM unnest(:public::boolean[], :messages::text[]) AS row (public, messages)
RETURNING chunk_id, public, created_at;

-- name: mark_published!
-- These chunks are on the broker. Internal ones are over: the saga sends again what is lost.
-- Public ones stay, long enough to survive a broker that forgot them.
WITH over AS (
    DELETE FROM outbox WHERE chunk_id = ANY (:chunk_ids::bigint[]) AND NOT public
)
UPDATE outbox SET published_at = now()
WHERE chunk_id = ANY (:chunk_ids::bigint[]) AND public AND published_at IS NULL;

-- name: claim_unpublished
-- Chunks that a crash left: this instance's own once they are older than the grace that its relay
-- needs, others' after their lease. The claim is a new lease, so two sweepers never share one.
-- An array and no IN, here and below: a plan may run the subquery of an IN more than once, and the
-- limit with it.
UPDATE outbox SET owner = :owner::text,
       lease_until = now() + :lease_s::float8 * interval '1 second'
WHERE chunk_id = ANY (ARRAY(
    SELECT chunk_id FROM outbox
    WHERE published_at IS NULL
      AND chunk_id <> ALL (:in_memory::bigint[])
      AND (lease_until < now()
           OR (owner = :owner::text
               AND created_at < now() - :own_grace_s::float8 * interval '1 second'))
    ORDER BY chunk_id
    LIMIT :chunks::integer
    FOR UPDATE SKIP LOCKED))
RETURNING chunk_id, created_at, messages;

-- name: delete_published!
-- Public chunks that were kept long enough, a bounded number at a time.
DELETE FROM outbox
WHERE chunk_id = ANY (ARRAY(
    SELECT chunk_id FROM outbox
    WHERE published_at < now() - :keep_s::float8 * interval '1 second'
    ORDER BY published_at
    LIMIT :chunks::integer
    FOR UPDATE SKIP LOCKED));

-- name: outbox_backlog
-- What waits to be published, and since when, in seconds.
SELECT count(*) AS chunks,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_age_s
FROM (SELECT created_at FROM outbox WHERE published_at IS NULL
      ORDER BY chunk_id LIMIT :limit::integer) AS waiting;

-- name: forget_old_messages!
-- Inbox rows older than anything that could come again, a bounded number at a time.
DELETE FROM inbox
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM inbox
    WHERE received_at < now() - :keep_s::float8 * interval '1 second' AND answers IS NULL
    LIMIT :rows::integer));

-- name: raise_lease_token!
-- Tell the holder, whoever it is, that somebody acted without the lease.
UPDATE lease SET token = token + 1 WHERE name = :name::text;

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
