-- Admits orders by the counters of hot products: all hot lines of an order, or none. What was
-- admitted is remembered, so that a reply that was lost may be asked for again; where an order asks
-- again under other fences, what it took from counters that are the same is counted.
--
-- A counter is a hash: left, epoch, generation, run (the server's), changes, token (its writer's).
-- It counts only where epoch and generation are those that the caller read in Postgres and the
-- server is the one that it was written on: after a restart, a fail-over or a flush it is closed,
-- and so is whatever else stands at its key.
--
-- KEYS    the counters, then a memory for each order
-- ARGV    1: how many counters; 2: how long a memory is kept, in seconds;
--         for each counter its epoch and its generation;
--         for each order how many lines it has, and for each line the counter's place among KEYS
--         and the quantity
-- Returns for each order {1} admitted, {2} admitted before,
--         {0, place, left, …} too little, for each line that stood in the way,
--         {-1, place, …} closed, for each counter that is
local counters, keep_s = tonumber(ARGV[1]), ARGV[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local function is_number(text)
  return text and #text < 16 and string.match(text, '^%-?%d+$')
end
local left, fence, place_of, next = {}, {}, {}, 3
for place = 1, counters do
  local epoch, generation = ARGV[next], ARGV[next + 1]
  next = next + 2
  local found = redis.pcall('HMGET', KEYS[place], 'left', 'epoch', 'generation', 'run', 'changes')
  if not found.err and is_number(found[1]) and is_number(found[5])
      and found[2] == epoch and found[3] == generation and found[4] == run then
    left[place] = tonumber(found[1])
  end
  fence[place] = epoch .. '.' .. generation
  place_of[KEYS[place]] = place
end

local answers, taken = {}, {}
local function take(place, quantity)
  left[place] = left[place] - quantity
  taken[place] = (taken[place] or 0) + quantity
end

for order = counters + 1, #KEYS do
  local lines, wanted, under, closed = tonumber(ARGV[next]), {}, {}, {-1}
  for line = 1, lines do
    local place, quantity = tonumber(ARGV[next + 2 * line - 1]), tonumber(ARGV[next + 2 * line])
    wanted[line] = {place, quantity}
    under[line] = KEYS[place] .. ':' .. fence[place] .. ':' .. quantity
    if not left[place] then
      closed[#closed + 1] = place
    end
  end
  next = next + 2 * lines + 1

  local memory, before = table.concat(under, ','), redis.pcall('GET', KEYS[order])
  if #closed > 1 then
    answers[#answers + 1] = closed
  elseif before == memory then
    answers[#answers + 1] = {2}
  else
    local short = {0}
    if type(before) == 'string' then
      for key, under_then, quantity in string.gmatch(before .. ',', '(.-):(%d+%.%d+):(%d+),') do
        local place = place_of[key]
        if place and left[place] and fence[place] == under_then then
          take(place, -tonumber(quantity))
        end
      end
      redis.call('DEL', KEYS[order])
    end
    for _, one in ipairs(wanted) do
      if left[one[1]] < one[2] then
        short[#short + 1] = one[1]
        short[#short + 1] = math.max(left[one[1]], 0)
      end
    end
    if #short > 1 then
      answers[#answers + 1] = short
    else
      for _, one in ipairs(wanted) do
        take(one[1], one[2])
      end
      redis.call('SET', KEYS[order], memory, 'EX', keep_s)
      answers[#answers + 1] = {1}
    end
  end
end
for place, units in pairs(taken) do
  if units ~= 0 then
    redis.call('HINCRBY', KEYS[place], 'left', -units)
    redis.call('HINCRBY', KEYS[place], 'changes', 1)
  end
end
return answers
