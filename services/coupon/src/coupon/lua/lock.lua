-- Takes the locks of campaigns, all or none, or renews those that are the caller's. Asked again by
-- the same holder it says the same: a reply may get lost. A lock without an end is nobody's: all are
-- taken with one.
--
-- KEYS    the locks
-- ARGV    1: the holder; 2: for how long, in milliseconds; 3: `take`, or `renew`, which takes nothing
--         that the caller doesn't hold any more
-- Returns 1, or 0 where another holds one of them, or where one to be renewed isn't held
for place = 1, #KEYS do
  local holder = redis.pcall('GET', KEYS[place])
  local is_held = type(holder) == 'string' and redis.call('PTTL', KEYS[place]) >= 0
  if (is_held and holder ~= ARGV[1]) or (ARGV[3] == 'renew' and not is_held) then
    return 0
  end
end
for place = 1, #KEYS do
  redis.call('SET', KEYS[place], ARGV[1], 'PX', ARGV[2])
end
return 1
