-- What counters say, for those who compare them with their rows.
--
-- KEYS    the counters
-- Returns for each {left, epoch, generation, changes}, or {} where it is not there or was written
--         on another server
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answers = {}
for place = 1, #KEYS do
  local found = redis.call('HMGET', KEYS[place], 'left', 'epoch', 'generation', 'changes', 'run')
  if found[5] == run then
    answers[place] = {tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])}
  else
    answers[place] = {}
  end
end
return answers
