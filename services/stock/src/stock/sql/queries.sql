-- name: lock_reservations
-- The reservations of a chunk's orders, locked in key order: first of all locks.
SELECT order_id, state, lines, refusal
FROM reservation
WHERE order_id = ANY (:order_ids::text[])
ORDER BY order_id
FOR UPDATE;

-- name: read_products
-- The products of a chunk as they are now, without locks: the fold is checked when it is saved.
SELECT product_id, name, price, currency, strategy, when_redis_down, max_per_order,
       available, reserved, sold, received, version, active, epoch, generation
FROM product
WHERE product_id = ANY (:product_ids::text[]);

-- name: lock_products
-- The same rows, locked in key order and as they are then. UPDATE … FROM unnest alone would
-- lock them in the order of its plan, and two chunks could wait for each other.
SELECT product_id, name, price, currency, strategy, when_redis_down, max_per_order,
       available, reserved, sold, received, version, active, epoch, generation
FROM product
WHERE product_id = ANY (:product_ids::text[])
ORDER BY product_id
FOR UPDATE;

-- name: decided
-- Which of these orders have their verdict.
SELECT order_id FROM reservation WHERE order_id = ANY (:order_ids::text[]);

-- name: queue
-- A place in the queue of each of these products, until the transaction ends. Advisory locks are
-- granted in the order in which they were asked for; who waits for a row isn't. There are 256
-- queues, so that a chunk of many products never fills the table of locks, and 7353 tells them from
-- other advisory locks.
SELECT pg_advisory_xact_lock(7353, number)
FROM (SELECT DISTINCT hashtext(product_id) & 255 AS number
      FROM unnest(:product_ids::text[]) AS product_id
      ORDER BY number
      OFFSET 0) AS queues;

-- name: insert_reservations!
-- A row that is there already belongs to a faster instance: the caller counts and starts over.
INSERT INTO reservation (order_id, state, lines, refusal)
SELECT order_id, state, lines::jsonb, refusal::jsonb
FROM unnest(:order_ids::text[], :states::text[], :lines::text[], :refusals::text[])
     AS row (order_id, state, lines, refusal)
ON CONFLICT DO NOTHING;

-- name: update_reservations!
-- Rows are locked by now.
UPDATE reservation SET state = row.state
FROM unnest(:order_ids::text[], :states::text[]) AS row (order_id, state)
WHERE reservation.order_id = row.order_id;

-- name: insert_products!
-- New products; a conflict is another instance's PutProduct of the same one.
INSERT INTO product (product_id, name, price, currency, strategy, when_redis_down, max_per_order,
                     available, reserved, sold, received, version, active, epoch, generation)
SELECT *
FROM unnest(:product_ids::text[], :names::text[], :prices::bigint[], :currencies::text[],
            :strategies::text[], :when_redis_downs::text[], :max_per_orders::integer[],
            :availables::bigint[], :reserveds::bigint[], :solds::bigint[], :receiveds::bigint[],
            :versions::bigint[], :actives::text[], :epochs::bigint[], :generations::bigint[])
ON CONFLICT DO NOTHING;

-- name: update_counters!
-- The counters of products that are locked by now.
UPDATE product
SET available = row.available, reserved = row.reserved, sold = row.sold,
    received = row.received, version = row.version, generation = row.generation
FROM unnest(:product_ids::text[], :availables::bigint[], :reserveds::bigint[], :solds::bigint[],
            :receiveds::bigint[], :versions::bigint[], :generations::bigint[])
     AS row (product_id, available, reserved, sold, received, version, generation)
WHERE product.product_id = row.product_id;

-- name: update_products!
-- Locked products as a whole: what an operator says of them, and their counters.
UPDATE product
SET name = row.name, price = row.price, strategy = row.strategy,
    when_redis_down = row.when_redis_down, max_per_order = row.max_per_order,
    available = row.available, reserved = row.reserved, sold = row.sold,
    received = row.received, version = row.version, active = row.active, epoch = row.epoch,
    generation = row.generation
FROM unnest(:product_ids::text[], :names::text[], :prices::bigint[], :strategies::text[],
            :when_redis_downs::text[], :max_per_orders::integer[], :availables::bigint[],
            :reserveds::bigint[], :solds::bigint[], :receiveds::bigint[], :versions::bigint[],
            :actives::text[], :epochs::bigint[], :generations::bigint[])
     AS row (product_id, name, price, strategy, when_redis_down, max_per_order, available,
             reserved, sold, received, version, active, epoch, generation)
WHERE product.product_id = row.product_id;

-- name: insert_movements!
-- The primary key is the last defence: a command moves a product once.
INSERT INTO stock_movement (command_id, product_id, kind, quantity, reason)
SELECT * FROM unnest(:command_ids::text[], :product_ids::text[], :kinds::text[],
                     :quantities::bigint[], :reasons::text[]);

-- name: hot_products
-- The products that are sold by a counter in Redis.
SELECT product_id, name, price, currency, strategy, when_redis_down, max_per_order,
       available, reserved, sold, received, version, active, epoch, generation
FROM product
WHERE active = 'redis'
ORDER BY product_id;

-- name: raise_generations!
-- Locked rows, before their counters are written anew.
UPDATE product SET generation = generation + 1 WHERE product_id = ANY (:product_ids::text[]);

-- name: add_contention!
-- What one instance measured is added to what the others did in the same ten seconds.
INSERT INTO product_contention (product_id, at, commands, conflicts, refusals, lock_wait_ms)
SELECT product_id, date_bin('10 seconds', now(), 'epoch'), commands, conflicts, refusals,
       lock_wait_ms
FROM unnest(:product_ids::text[], :commands::bigint[], :conflicts::bigint[], :refusals::bigint[],
            :lock_wait_mss::float8[])
     AS row (product_id, commands, conflicts, refusals, lock_wait_ms)
ORDER BY product_id
ON CONFLICT (product_id, at) DO UPDATE
SET commands = product_contention.commands + excluded.commands,
    conflicts = product_contention.conflicts + excluded.conflicts,
    refusals = product_contention.refusals + excluded.refusals,
    lock_wait_ms = product_contention.lock_wait_ms + excluded.lock_wait_ms;

-- name: contention
-- What was measured in the last seconds, of each product that was contended.
SELECT product_id, sum(commands)::bigint AS commands, sum(conflicts)::bigint AS conflicts,
       sum(refusals)::bigint AS refusals, sum(lock_wait_ms) AS lock_wait_ms
FROM product_contention
WHERE at > now() - :window_s::float8 * interval '1 second'
GROUP BY product_id;

-- name: forget_contention!
DELETE FROM product_contention WHERE at < now() - :keep_s::float8 * interval '1 second';

-- name: auto_products
-- Of the products that choose for themselves these, and those that may go back by now.
SELECT product_id, name, price, currency, strategy, when_redis_down, max_per_order,
       available, reserved, sold, received, version, active, epoch, generation
FROM product
WHERE strategy = 'auto' AND (product_id = ANY (:contended::text[]) OR active <> 'optimistic');

-- name: lock_auto_products
-- The same, locked in key order.
SELECT product_id, name, price, currency, strategy, when_redis_down, max_per_order,
       available, reserved, sold, received, version, active, epoch, generation
FROM product
WHERE strategy = 'auto' AND (product_id = ANY (:contended::text[]) OR active <> 'optimistic')
ORDER BY product_id
FOR UPDATE;
