-- Follows what Postgres has decided: units that were released or received (above 0) or written off
-- (below). Once for each command, and not on a counter that was written anew since.
--
-- KEYS    1: the command's memory; 2: the counter
-- ARGV    1: epoch; 2: generation; 3: units; 4: how long the memory is kept, in seconds
-- Returns 1, or 0 where it was done before or the counter is another
local found = redis.pcall('HMGET', KEYS[2], 'epoch', 'generation')
if found.err or found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then
  return 0
end
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[4]) then
  return 0
end
redis.pcall('HINCRBY', KEYS[2], 'left', ARGV[3])
redis.call('HINCRBY', KEYS[2], 'changes', 1)
return 1
