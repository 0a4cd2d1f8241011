-- Admits orders by the counters of hot products: all hot lines of an order, or none. What was
-- admitted is remembered, so that a reply that was lost may be asked for again.
--
-- A counter is a hash: left, epoch, generation, run (the server's), changes. It counts only where
-- epoch and generation are those that the caller read in Postgres and the server is the one that
-- it was written on: after a restart, a fail-over or a flush it is closed.
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
local left, fence, next = {}, {}, 3
for place = 1, counters do
  local epoch, generation = ARGV[next], ARGV[next + 1]
  next = next + 2
  local found = redis.call('HMGET', KEYS[place], 'left', 'epoch', 'generation', 'run')
  if found[1] and found[2] == epoch and found[3] == generation and found[4] == run then
    left[place] = tonumber(found[1])
  end
  fence[place] = epoch .. '.' .. generation
end

local answers, taken = {}, {}
for order = counters + 1, #KEYS do
  local lines = tonumber(ARGV[next])
  next = next + 1
  local closed, short, under = {-1}, {0}, {}
  for line = 0, lines - 1 do
    local place, quantity = tonumber(ARGV[next + 2 * line]), tonumber(ARGV[next + 2 * line + 1])
    under[line + 1] = KEYS[place] .. ':' .. fence[place] .. ':' .. quantity
    if not left[place] then
      closed[#closed + 1] = place
    elseif left[place] < quantity then
      short[#short + 1] = place
      short[#short + 1] = math.max(left[place], 0)
    end
  end
  local memory = table.concat(under, ',')
  if #closed > 1 then
    answers[#answers + 1] = closed
  elseif redis.call('GET', KEYS[order]) == memory then
    answers[#answers + 1] = {2}
  elseif #short > 1 then
    answers[#answers + 1] = short
  else
    for line = 0, lines - 1 do
      local place, quantity = tonumber(ARGV[next + 2 * line]), tonumber(ARGV[next + 2 * line + 1])
      left[place] = left[place] - quantity
      taken[place] = (taken[place] or 0) + quantity
    end
    redis.call('SET', KEYS[order], memory, 'EX', keep_s)
    answers[#answers + 1] = {1}
  end
  next = next + 2 * lines
end
for place, units in pairs(taken) do
  redis.call('HINCRBY', KEYS[place], 'left', -units)
  redis.call('HINCRBY', KEYS[place], 'changes', 1)
end
return answers
