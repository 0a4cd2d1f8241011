-- Takes back what an order was admitted for, where it is remembered: once, however often it is
-- asked, and not from a counter that was written anew since.
--
-- KEYS    1: the order's memory; then the counters of its lines
-- ARGV    for each line epoch, generation and quantity
-- Returns 1, or 0 where nothing of it is remembered
local memory = redis.pcall('GET', KEYS[1])
local under = {}
for line = 1, #KEYS - 1 do
  local epoch, generation, quantity = ARGV[3 * line - 2], ARGV[3 * line - 1], ARGV[3 * line]
  under[line] = KEYS[line + 1] .. ':' .. epoch .. '.' .. generation .. ':' .. quantity
end
if memory ~= table.concat(under, ',') then
  return 0
end
for line = 1, #KEYS - 1 do
  local found = redis.pcall('HMGET', KEYS[line + 1], 'epoch', 'generation')
  if not found.err and found[1] == ARGV[3 * line - 2] and found[2] == ARGV[3 * line - 1] then
    redis.pcall('HINCRBY', KEYS[line + 1], 'left', ARGV[3 * line])
    redis.call('HINCRBY', KEYS[line + 1], 'changes', 1)
  end
end
redis.call('DEL', KEYS[1])
return 1
