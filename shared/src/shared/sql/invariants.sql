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
-- In passes: left out, since it reads all events of a day.
SELECT outbox.chunk_id, message.position, message.topic, message.message_id
FROM outbox LEFT JOIN outbox_message AS message ON message.chunk_id = outbox.chunk_id
WHERE message.topic IS NULL OR message.message_id IS NULL;

-- name: schema_is_closed_to_other_services
-- Invariant 10, always: no service's role can read another's schema, neither by a right of its own
-- nor as a superuser, nor by becoming the owner. A service's role has the name of its schema.
SELECT role.rolname AS role, owner.nspname AS schema
FROM pg_roles AS role
JOIN pg_namespace AS own ON own.nspowner = role.oid AND own.nspname = role.rolname
JOIN pg_namespace AS owner ON owner.nspname = current_schema() AND owner.nspowner <> role.oid
WHERE role.rolcanlogin
  AND (has_schema_privilege(role.oid, owner.oid, 'USAGE')
       OR pg_has_role(role.oid, owner.nspowner, 'MEMBER'));
