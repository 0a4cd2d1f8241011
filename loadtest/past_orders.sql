-- Past orders as the services leave them, written straight into their tables: `audit.orders` says
-- how many. Nine in ten are confirmed, one in ten is rejected for want of money, one in five has
-- a coupon. Counters, balances and ledgers agree.

CREATE TEMP TABLE past ON COMMIT DROP AS
SELECT 'past-' || lpad(n::text, 9, '0') AS order_id, 'user_' || (n / 5) % 10000 AS user_id,
       'P' || lpad((n % 100 + 1)::text, 3, '0') AS product_id, n % 10 <> 9 AS confirmed,
       CASE WHEN n % 5 = 0 THEN 'C' || n / 50000 END AS coupon_id,
       CASE WHEN n % 5 = 0 THEN 10 ELSE 0 END AS discount, n,
       now() - (current_setting('audit.orders')::bigint - n) * interval '5 milliseconds' AS at
FROM generate_series(0, current_setting('audit.orders')::bigint - 1) AS n;

INSERT INTO orders.saga (order_id, user_id, fingerprint, fingerprint_version, accepted_at, placed,
                         definition_version, state, version, told_version, told_at, progress,
                         history, waiting)
SELECT order_id, user_id, decode(repeat('00', 16), 'hex'), 1, at,
       json_build_object('v', 1, 'lines', json_build_array(json_build_array(product_id, 1)),
                         'payment', json_build_object('method', 'wallet', 'points', 0),
                         'pay', 'now', 'currency', 'KRW', 'couponId', coupon_id),
       1, CASE WHEN confirmed THEN 'CONFIRMED' ELSE 'REJECTED' END,
       CASE WHEN confirmed THEN 5 ELSE 4 END, CASE WHEN confirmed THEN 3 ELSE 4 END, at,
       json_build_object(
           'v', 1, 'prices', json_build_array(100), 'discount', discount,
           'steps', CASE WHEN confirmed THEN
               json_build_object('reserve', 'done', 'charge', 'done', 'commit', 'done',
                                 'hold', CASE WHEN coupon_id IS NULL THEN 'skipped' ELSE 'done' END,
                                 'use', CASE WHEN coupon_id IS NULL THEN 'skipped' ELSE 'done' END)
           ELSE '{"reserve":"undone","hold":"skipped","charge":"refused"}'::json END),
       (SELECT string_agg(
                   json_build_array(version, state, 'StockReserved', at, NULL)::text || E'\n',
                   '' ORDER BY version)
        FROM unnest(CASE WHEN confirmed
                    THEN ARRAY['RESERVING', 'CHARGING', 'COMPLETING', 'COMPLETING', 'CONFIRMED']
                    ELSE ARRAY['RESERVING', 'CHARGING', 'COMPENSATING', 'REJECTED'] END)
             WITH ORDINALITY AS line (state, version)),
       false
FROM past;

-- Both events of a hundred orders in each chunk.
INSERT INTO orders.outbox (owner, public, lease_until, published_at, messages)
SELECT 'order-orchestrator-0', true, now(), now(), json_agg(message)
FROM (
    SELECT n / 100 AS chunk,
           json_build_array('orders.events.v1', order_id, type, order_id || ':' || type, '',
                            json_build_object('type', type, 'orderId', order_id,
                                              'userId', user_id, 'version', 1, 'at', at)::text)
               AS message
    FROM past, unnest(ARRAY['OrderAccepted',
                            CASE WHEN confirmed THEN 'OrderConfirmed' ELSE 'OrderRejected' END])
         AS type
) AS said
GROUP BY chunk;

INSERT INTO stock.reservation (order_id, state, lines)
SELECT order_id, CASE WHEN confirmed THEN 'COMMITTED' ELSE 'RELEASED' END,
       jsonb_build_array(jsonb_build_array(product_id, 1, 100))
FROM past;

INSERT INTO stock.stock_movement (command_id, product_id, kind, quantity)
SELECT order_id || ':reserve:do', product_id, 'reserved', 1 FROM past
UNION ALL
SELECT order_id || CASE WHEN confirmed THEN ':commit:do' ELSE ':reserve:undo' END, product_id,
       CASE WHEN confirmed THEN 'committed' ELSE 'released' END, 1
FROM past
UNION ALL
SELECT DISTINCT 'put-' || product_id, product_id, 'received', 1000000 FROM past;

INSERT INTO stock.product (product_id, name, price, currency, strategy, when_redis_down,
                           available, reserved, sold, received, version)
SELECT product_id, product_id, 100, 'KRW', 'optimistic', 'postgres',
       1000000 - count(*) FILTER (WHERE confirmed), 0, count(*) FILTER (WHERE confirmed), 1000000, 1
FROM past GROUP BY product_id;

INSERT INTO coupon.campaign (coupon_id, kind, coupon_limit, issued, discount_type, discount_value,
                             currency)
SELECT coupon_id, 'first_come', 10000, count(*), 'fixed', 10, 'KRW'
FROM past WHERE coupon_id IS NOT NULL GROUP BY coupon_id;

INSERT INTO coupon.coupon (coupon_id, user_id, sequence, state, order_id, issued_at)
SELECT coupon_id, user_id, row_number() OVER (PARTITION BY coupon_id ORDER BY n),
       CASE WHEN confirmed THEN 'USED' ELSE 'ISSUED' END,
       CASE WHEN confirmed THEN order_id END, at
FROM past WHERE coupon_id IS NOT NULL;

INSERT INTO coupon.coupon_hold (order_id, state, coupon_id, user_id, total, discount, used)
SELECT order_id, CASE WHEN confirmed THEN 'USED' ELSE 'RESTORED' END, coupon_id, user_id, 100, 10,
       confirmed
FROM past WHERE coupon_id IS NOT NULL;

INSERT INTO coupon.inbox (message_type, message_id, fingerprint, answers)
SELECT 'IssueCoupon', 'issue-' || order_id, decode(repeat('00', 16), 'hex'),
       jsonb_build_array(jsonb_build_array(
           'coupon.events.v1', coupon_id, 'CouponIssued', 'issue-' || order_id,
           jsonb_build_object('type', 'CouponIssued', 'couponId', coupon_id,
                              'commandId', 'issue-' || order_id, 'userId', user_id)::text))
FROM past WHERE coupon_id IS NOT NULL;

INSERT INTO payment.payment (order_id, state, user_id, amount, currency, method, points, captured,
                             refunded, refusal, fingerprint_version, fingerprint)
SELECT order_id, CASE WHEN confirmed THEN 'CAPTURED' ELSE 'REFUSED' END, user_id, 100 - discount,
       'KRW', 'wallet', 0, CASE WHEN confirmed THEN 100 - discount ELSE 0 END, 0,
       CASE WHEN NOT confirmed THEN 'insufficient_balance' END, 1, decode(repeat('00', 16), 'hex')
FROM past;

INSERT INTO payment.ledger_entry (transaction_id, account, amount, currency)
SELECT 'payment:' || order_id, account, amount, 'KRW'
FROM past, LATERAL (VALUES ('wallet:' || user_id, discount - 100), ('house:revenue', 100 - discount))
     AS entry (account, amount)
WHERE confirmed
UNION ALL
SELECT 'top-up:' || user_id, account, amount, 'KRW'
FROM (SELECT DISTINCT user_id FROM past) AS users,
     LATERAL (VALUES ('wallet:' || user_id, 1000000000), ('house:treasury', -1000000000))
     AS entry (account, amount);

INSERT INTO payment.wallet (user_id, currency, balance)
SELECT user_id, 'KRW',
       1000000000 - coalesce(sum(100 - discount) FILTER (WHERE confirmed), 0)
FROM past GROUP BY user_id;
