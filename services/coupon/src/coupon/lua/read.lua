-- What gates say, for those who compare them with their rows.
--
-- KEYS    the gates
-- Returns for each {taken, limit, fence, changes}, or {} where there is none, or none of this server
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answers = {}
for place = 1, #KEYS do
  local found = redis.pcall('HMGET', KEYS[place], 'taken', 'limit', 'fence', 'changes', 'run')
  answers[place] = {}
  if not found.err and found[5] == run then
    local taken, limit, fence, changes =
      tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
    if taken and limit and fence and changes and #found[1] < 16 and #found[4] < 16 then
      answers[place] = {taken, limit, fence, changes}
    end
  end
end
return answers
