-- Count an order among its user's unpaid ones, unless there are too many already. The time is the
-- server's: clocks of storefronts may differ.
-- KEYS[1]  sorted set: unpaid orders of a user, by when they are forgotten (ms since 1970)
-- ARGV     order id, keep (ms), at most
-- Returns  nothing: counted, also where it was before; else those that are counted, oldest first,
--          each with its age (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keep = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local at_most = tonumber(ARGV[3])
if not redis.call('ZSCORE', KEYS[1], ARGV[1])
    and redis.call('ZCARD', KEYS[1]) >= at_most then
  local counted = redis.call('ZRANGE', KEYS[1], 0, at_most - 1, 'WITHSCORES')
  for place = 2, #counted, 2 do
    counted[place] = now + keep - tonumber(counted[place])
  end
  return counted
end
redis.call('ZADD', KEYS[1], now + keep, ARGV[1])
redis.call('PEXPIRE', KEYS[1], keep)
return {}
