-- Lets go of locks that are still the caller's.
--
-- KEYS    the locks
-- ARGV    1: the holder
-- Returns how many it held
local held = 0
for place = 1, #KEYS do
  if redis.pcall('GET', KEYS[place]) == ARGV[1] then
    held = held + redis.call('DEL', KEYS[place])
  end
end
return held
