-- What counters say, for those who compare them with their rows.
--
-- KEYS    the counters
-- Returns for each {left, epoch, generation, changes}, or {} where there is none, or none of this
--         server
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answers = {}
for place = 1, #KEYS do
  local found = redis.pcall('HMGET', KEYS[place], 'left', 'epoch', 'generation', 'changes', 'run')
  answers[place] = {}
  if not found.err and found[5] == run then
    local left, epoch, generation, changes =
      tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
    if left and epoch and generation and changes and #found[4] < 16 then
      answers[place] = {left, epoch, generation, changes}
    end
  end
end
return answers
