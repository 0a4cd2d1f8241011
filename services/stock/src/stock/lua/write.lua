-- Writes counters anew, as their rows are in Postgres, which the caller holds locked.
--
-- KEYS    the counters
-- ARGV    for each counter epoch, generation and what is left
-- Returns how many were written: one that was written later under a higher generation stays
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local written = 0
for place = 1, #KEYS do
  local epoch, generation, left = ARGV[3 * place - 2], ARGV[3 * place - 1], ARGV[3 * place]
  local found = redis.call('HMGET', KEYS[place], 'generation', 'run')
  if not (found[2] == run and found[1] and tonumber(found[1]) > tonumber(generation)) then
    redis.call('HSET', KEYS[place], 'left', left, 'epoch', epoch, 'generation', generation, 'run', run)
    redis.call('HINCRBY', KEYS[place], 'changes', 1)
    redis.call('PERSIST', KEYS[place])
    written = written + 1
  end
end
return written
