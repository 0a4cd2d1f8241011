-- Forgets the gates of all campaigns but those that still stand before one.
--
-- KEYS    1: the set of all gates
-- ARGV    1: what the key of a gate begins with; 2: what that of its users begins with; then the
--         campaigns that stay
-- Returns how many were forgotten
local members = redis.pcall('SMEMBERS', KEYS[1])
if members.err then
  return 0
end
local stays, forgotten = {}, 0
for at = 3, #ARGV do
  stays[ARGV[at]] = true
end
for _, campaign in ipairs(members) do
  if not stays[campaign] then
    redis.call('UNLINK', ARGV[1] .. campaign, ARGV[2] .. campaign)
    redis.call('SREM', KEYS[1], campaign)
    forgotten = forgotten + 1
  end
end
return forgotten
