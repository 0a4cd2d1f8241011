-- Takes an admission back that came to nothing: once, and not from a gate that was written anew since.
--
-- KEYS    1: the gate; 2: the hash of its users
-- ARGV    1: fence; 2: user; 3: command
-- Returns 1, or 0 where nothing of it is remembered
if redis.pcall('HGET', KEYS[1], 'fence') ~= ARGV[1]
    or redis.pcall('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return 0
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'taken', -1)
redis.call('HINCRBY', KEYS[1], 'changes', 1)
return 1
