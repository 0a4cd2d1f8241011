-- Writes gates anew, as their campaigns are in Postgres, which the caller holds locked. Whatever
-- stands there is overwritten. A call that comes a second time, since its reply was lost, changes
-- nothing: the gate may have been used since.
--
-- KEYS    1: the set of all gates; then for each campaign its gate and the hash of its users
-- ARGV    1: the call's token; for each campaign its id, fence, limit, and how many are issued
-- Returns how many were written
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local written = 0
if type(redis.pcall('SCARD', KEYS[1])) ~= 'number' then
  redis.call('UNLINK', KEYS[1])
end
for place = 1, (#KEYS - 1) / 2 do
  local gate, users, at = KEYS[2 * place], KEYS[2 * place + 1], 4 * place - 2
  if redis.pcall('HGET', gate, 'token') ~= ARGV[1] then
    redis.call('UNLINK', gate, users)
    redis.call('HSET', gate, 'fence', ARGV[at + 1], 'limit', ARGV[at + 2], 'taken', ARGV[at + 3],
      'run', run, 'changes', 0, 'token', ARGV[1])
    redis.call('SADD', KEYS[1], ARGV[at])
    written = written + 1
  end
end
return written
