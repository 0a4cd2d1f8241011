-- Which orders a pass of the auditor looks at: a slice of all orders in the order of their ids, and
-- those that have just moved.

-- name: last_of_slice
-- The last order of the next slice; none where what is left is less than a slice.
SELECT order_id FROM orders.saga
WHERE order_id > :after::text
ORDER BY order_id
OFFSET :orders::integer - 1 LIMIT 1;

-- name: moved_orders
-- Orders that were told of lately, and those to which a reply is owed or that are stuck. All three
-- are found by an index, and each is bounded.
(SELECT DISTINCT message.fields ->> 1 AS order_id
 FROM (SELECT messages FROM orders.outbox
       WHERE public AND published_at > clock_timestamp() - :since_s::float8 * interval '1 second'
       ORDER BY published_at DESC
       LIMIT :orders::integer / 10) AS chunk,
      json_array_elements(chunk.messages) AS message (fields)
 LIMIT :orders::integer)
UNION
(SELECT order_id FROM orders.saga WHERE waiting LIMIT :orders::integer)
UNION
(SELECT order_id FROM orders.saga WHERE stuck_since IS NOT NULL LIMIT :orders::integer);
