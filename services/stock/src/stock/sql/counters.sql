-- name: hot_product_counters
-- What the counter of each hot product holds once nothing is under way: the fields of a hash.
SELECT '{stock}:' || product_id AS key,
       json_build_object('left', available::text, 'epoch', epoch::text,
                         'generation', generation::text) AS fields
FROM product
WHERE active = 'redis';
