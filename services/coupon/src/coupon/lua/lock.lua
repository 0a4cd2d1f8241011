-- Takes the locks of campaigns, all or none, or renews those that are the caller's. Asked again by
-- the same holder it says the same: a reply may get lost.
--
-- KEYS    the locks
-- ARGV    1: the holder; 2: for how long, in milliseconds
-- Returns 1, or 0 where another holds one of them
for place = 1, #KEYS do
  local holder = redis.pcall('GET', KEYS[place])
  if type(holder) == 'string' and holder ~= ARGV[1] then
    return 0
  end
end
for place = 1, #KEYS do
  redis.call('SET', KEYS[place], ARGV[1], 'PX', ARGV[2])
end
return 1
