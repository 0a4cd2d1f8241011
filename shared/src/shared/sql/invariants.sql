-- Invariants of the pipeline's tables. They hold in every service's schema, and run in each.

-- name: outbox_is_published
-- Invariant 8, at rest: the outbox is empty of unpublished rows.
SELECT chunk_id, owner, created_at, lease_until
FROM outbox_chunk
WHERE published_at IS NULL
ORDER BY chunk_id;

-- name: outbox_rows_have_their_chunk
-- Invariant 8, always: every outbox row belongs to a chunk, and every chunk has rows; a row
-- without its chunk would never be published.
SELECT coalesce(chunk.chunk_id, row.chunk_id) AS chunk_id, row.position, row.topic, row.message_id
FROM outbox_chunk AS chunk
FULL JOIN outbox AS row ON row.chunk_id = chunk.chunk_id
WHERE chunk.chunk_id IS NULL OR row.chunk_id IS NULL;

-- name: schema_is_closed_to_other_services
-- Invariant 10, always: no service's role can read another's schema.
SELECT role.rolname AS role, current_schema() AS schema
FROM pg_roles AS role
WHERE role.oid IN (SELECT nspowner FROM pg_namespace)
  AND NOT role.rolsuper
  AND role.rolcanlogin
  AND role.oid <> (SELECT nspowner FROM pg_namespace WHERE nspname = current_schema())
  AND has_schema_privilege(role.oid, current_schema(), 'USAGE');
