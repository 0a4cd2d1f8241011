-- Count an order among its user's unpaid ones, unless there are too many already.
-- KEYS[1]  sorted set: unpaid orders of a user, by when they are forgotten (ms since 1970)
-- ARGV     order id, now (ms), keep (ms), at most
-- Returns  1: counted, also where it was before; 0: too many
local now = tonumber(ARGV[2])
local keep = tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1])
    and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + keep, ARGV[1])
redis.call('PEXPIRE', KEYS[1], keep)
return 1
