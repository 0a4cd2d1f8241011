-- What `orderctl drain` asks, over all schemas, as the operator. Every query has a partial index.

-- name: sagas_under_way
-- By state and definition; `moving` are those that go on by themselves.
SELECT state, definition_version, stuck_since IS NOT NULL AS stuck,
       stuck_since IS NULL AND (waiting OR pending_since IS NOT NULL) AS moving,
       count(*) AS sagas, min(accepted_at) AS oldest
FROM orders.saga
WHERE waiting OR timer_at IS NOT NULL OR pending_since IS NOT NULL OR stuck_since IS NOT NULL
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4;

-- name: unpublished_chunks
-- By schema. An instance publishes what it wrote long before its lease ends, and another one what
-- it left: one whose lease ended so many seconds ago is published by nobody.
SELECT schema, count(*) AS chunks, min(created_at) AS oldest,
       count(*) FILTER (WHERE lease_until < now() - :late_s::float8 * interval '1 second') AS late
FROM (SELECT 'stock' AS schema, created_at, lease_until FROM stock.outbox
      WHERE published_at IS NULL
      UNION ALL
      SELECT 'coupon', created_at, lease_until FROM coupon.outbox WHERE published_at IS NULL
      UNION ALL
      SELECT 'payment', created_at, lease_until FROM payment.outbox WHERE published_at IS NULL
      UNION ALL
      SELECT 'orders', created_at, lease_until FROM orders.outbox WHERE published_at IS NULL)
     AS waiting
GROUP BY schema
ORDER BY schema;

-- name: parked_commands
SELECT count(*) AS commands, min(parked_at) AS oldest FROM orders.parked_command;
