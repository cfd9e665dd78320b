-- What attacks and forfeits have in common.

local function logs_key(game)
  return 'games:' .. game .. ':logs'
end

local function order_key(game)
  return 'games:' .. game .. ':order'
end

-- The living, head = on turn.
local function order_of(game)
  local order = read('a list', 'LRANGE', order_key(game), 0, -1)
  if #order == 0 then malformed(order_key(game), nil, 'a list of players') end
  return order
end

-- Keeps the record of a move that was just made and tells who is on turn now. The game is over when there are not two
-- players `living`, or after `rounds` times as many moves as there are players.
local function conclude(game, record, players, rounds, living, following)
  local moves = redis.call('RPUSH', logs_key(game), record)
  if moves == 1 then
    local left = redis.call('PTTL', 'games:' .. game .. ':status')
    if left > 0 then redis.call('PEXPIRE', logs_key(game), left) end
  end
  if living < 2 or moves >= rounds * #players then
    following = ''
    set_status(game, 'Completed')
    publish(game, 'completed')
  else
    publish(game, 'turn ' .. following .. ' ' .. digits(moves))
  end
  return { 'ok', record, following, digits(moves), players }
end

-- The same answer once more, for a move that was made already: it left record `moves` (counted from 1), and others may
-- have followed it.
local function concluded(game, players, moves)
  local logs = logs_key(game)
  local records = read('a list', 'LRANGE', logs, moves - 1, moves)
  local following = ''
  if records[2] then
    local ok, record = pcall(cjson.decode, records[2])
    following = ok and type(record) == 'table' and type(record.PAYLOAD) == 'table' and record.PAYLOAD.USER_TOKEN
    if type(following) ~= 'string' then malformed(logs, records[2], 'an attack record') end
  elseif is_going(status_of(game)) then
    following = order_of(game)[1]
  end
  return { 'ok', records[1] or malformed(logs, nil, 'an attack record'), following, digits(moves), players }
end
