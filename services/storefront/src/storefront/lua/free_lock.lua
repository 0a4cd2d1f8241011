-- Give a lock back, unless its time was over and it is another's by now.
-- KEYS[1]  string: the token of who holds the lock
-- ARGV     token
-- Returns  1: given back; 0: it was not ours
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
