-- name: movements_open_since
-- No movement that commits from now on is older: when the oldest transaction that may still write
-- one began. It is asked before the movements are read, so that one which commits between the two
-- is found by either. The margin covers a transaction that has its time and doesn't show it yet.
-- One that is open for longer than any chunk is somebody's by hand: it must not make every pass
-- read all that moved since.
SELECT greatest(coalesce(min(xact_start), clock_timestamp()),
                clock_timestamp() - :longest_s::float8 * interval '1 second')
       - interval '250 milliseconds'
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

-- name: page_of_levels
-- A page of levels in key order; with a bound, only those of products with so few units available.
SELECT product_id, available, reserved, sold, received, version
FROM product
WHERE product_id > :after::text AND available <= coalesce(:available_at_most::bigint, available)
ORDER BY product_id
LIMIT :products::integer;

-- name: page_of_products
-- A page of the catalogue in key order.
SELECT product_id, name, price, currency, available, version
FROM product
WHERE product_id > :after::text
ORDER BY product_id
LIMIT :products::integer;

-- name: products_named
-- The same of products by name.
SELECT product_id, name, price, currency, available, version
FROM product
WHERE product_id = ANY (:product_ids::text[]);

-- name: show_product
-- All that is known of a product.
SELECT product_id, name, price, currency, strategy, active, when_redis_down, max_per_order,
       available, reserved, sold, received, version
FROM product
WHERE product_id = :product_id::text;

-- name: count_low
-- How many products have so few units available. It reads all of them: an index on what changes
-- with each order would cost every order more.
SELECT count(*) FROM product WHERE available <= :units::bigint;
