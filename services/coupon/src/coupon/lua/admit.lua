-- Admits users to campaigns: as many as there are coupons, each once. Who was admitted is remembered
-- by user and command, so that a reply that was lost may be asked for again.
--
-- A gate is a hash: limit, taken, fence, run (the server's), changes, token (its writer's). It counts
-- only at the fence that the caller read in Postgres, and on the server on which it was written:
-- after a restart, a fail-over or a flush it is closed, and so is whatever else stands at its key.
-- `taken` is what the campaign had issued when the gate was written, and the admissions since.
--
-- KEYS    for each campaign its gate, and the hash of the users that it admitted
-- ARGV    1: how many campaigns; their fences; then for each request the campaign's place among
--         them, the user and the command
-- Returns for each request {1, number} admitted, as which; {2} admitted before; {0} all are taken;
--         {-2} another command of the user is admitted; {-1} the gate is closed
local campaigns = tonumber(ARGV[1])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local function is_number(text)
  return text and #text < 16 and string.match(text, '^%d+$')
end
local limit, taken, before = {}, {}, {}
for place = 1, campaigns do
  local found = redis.pcall('HMGET', KEYS[2 * place - 1], 'limit', 'taken', 'fence', 'run')
  local users = redis.pcall('HLEN', KEYS[2 * place])
  if type(users) == 'number' and not found.err and is_number(found[1]) and is_number(found[2])
      and found[3] == ARGV[1 + place] and found[4] == run then
    limit[place], taken[place] = tonumber(found[1]), tonumber(found[2])
    before[place] = taken[place]
  end
end

local answers = {}
for at = campaigns + 2, #ARGV, 3 do
  local place, user, command = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  if not limit[place] then
    answers[#answers + 1] = {-1}
  else
    local admitted = redis.call('HGET', KEYS[2 * place], user)
    if admitted == command then
      answers[#answers + 1] = {2}
    elseif admitted then
      answers[#answers + 1] = {-2}
    elseif taken[place] >= limit[place] then
      answers[#answers + 1] = {0}
    else
      redis.call('HSET', KEYS[2 * place], user, command)
      taken[place] = taken[place] + 1
      answers[#answers + 1] = {1, taken[place]}
    end
  end
end
for place, count in pairs(taken) do
  if count ~= before[place] then
    redis.call('HSET', KEYS[2 * place - 1], 'taken', count)
    redis.call('HINCRBY', KEYS[2 * place - 1], 'changes', 1)
  end
end
return answers
