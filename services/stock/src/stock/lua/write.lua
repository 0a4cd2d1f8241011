-- Writes counters anew, as their rows are in Postgres, which the caller holds locked. Whatever
-- stands there is overwritten: it counts under no row any more. A call that comes a second time,
-- since its reply was lost, changes nothing: the counter may have been used since.
--
-- KEYS    the counters
-- ARGV    1: the call's token; for each counter epoch, generation and what is left
-- Returns how many were written
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local written = 0
for place = 1, #KEYS do
  local found = redis.pcall('HGET', KEYS[place], 'token')
  if found ~= ARGV[1] then
    redis.call('DEL', KEYS[place])
    redis.call('HSET', KEYS[place], 'epoch', ARGV[3 * place - 1], 'generation', ARGV[3 * place],
      'left', ARGV[3 * place + 1], 'run', run, 'changes', 0, 'token', ARGV[1])
    written = written + 1
  end
end
return written
