-- Invariants of the pipeline's tables. They hold in every service's schema, and run in each.

-- name: outbox_is_published
-- Invariant 8, at rest: the outbox is empty of unpublished rows.
SELECT chunk_id, owner, created_at, lease_until
FROM outbox
WHERE published_at IS NULL
ORDER BY chunk_id;

-- name: outbox_rows_say_something
-- Invariant 8, always: every row of the outbox holds messages, each with a topic and an id; what
-- can't be read would never be published.
SELECT outbox.chunk_id, message.position, message.topic, message.message_id
FROM outbox LEFT JOIN outbox_message AS message ON message.chunk_id = outbox.chunk_id
WHERE message.topic IS NULL OR message.message_id IS NULL;

-- name: schema_is_closed_to_other_services
-- Invariant 10, always: no service's role can read another's schema.
SELECT role.rolname AS role, current_schema() AS schema
FROM pg_roles AS role
WHERE role.oid IN (SELECT nspowner FROM pg_namespace)
  AND NOT role.rolsuper
  AND role.rolcanlogin
  AND role.oid <> (SELECT nspowner FROM pg_namespace WHERE nspname = current_schema())
  AND has_schema_privilege(role.oid, current_schema(), 'USAGE');
