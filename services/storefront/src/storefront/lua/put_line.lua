-- Set the quantity of a product in a cart, unless the cart is full.
-- KEYS[1]  hash: product id -> quantity
-- ARGV     product id, quantity, lines at most, keep (s)
-- Returns  the whole hash, flat; nothing where the cart is full
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
    and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return {}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return redis.call('HGETALL', KEYS[1])
