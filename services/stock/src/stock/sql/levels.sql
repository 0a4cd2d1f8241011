-- name: movements_open_since
-- No movement that commits from now on is older: when the oldest transaction that may still write
-- one began. It is asked before the movements are read, so that one which commits between the two
-- is found by either. The margin covers a transaction that has its time and doesn't show it yet.
SELECT coalesce(min(xact_start), clock_timestamp()) - interval '250 milliseconds'
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid();

-- name: moved_since
-- The products that moved since then, and their versions now. The ledger is read by its times
-- alone: a plan that asks it product by product reads all of it.
WITH moved AS MATERIALIZED (
    SELECT DISTINCT product_id FROM stock_movement WHERE at >= :since::timestamptz
)
SELECT product_id, version FROM product JOIN moved USING (product_id);

-- name: read_versions
-- A page of all products, in key order.
SELECT product_id, version
FROM product
WHERE product_id > :after::text
ORDER BY product_id
LIMIT :products::integer;

-- name: read_levels
-- The counters of these products as they are now.
SELECT product_id, available, reserved, sold, received, version
FROM product
WHERE product_id = ANY (:product_ids::text[]);
