-- What `orderctl dlq` asks the inbox of a service, with that service's schema as the search path.

-- name: known_messages
-- Under which fingerprint these messages were obeyed, where they were.
SELECT message_type, message_id, fingerprint
FROM inbox
WHERE (message_type, message_id) IN (SELECT * FROM unnest(:types::text[], :ids::text[]));
