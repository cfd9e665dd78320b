-- Who attends which seat, and with what it is claimed.

local function seats_key(game)
  return 'games:' .. game .. ':seats'
end

-- `presence` is `here`, `left`, or since when the user is awaited. With `here` comes the visit, by which its own end is told from that of an earlier one.
local function read_seat(game, value)
  local claim, presence, digest, visit = string.match(value, '^([-+]) (%w+) (%x+) ?([%x-]*)$')
  if not claim or not (presence == 'here' or presence == 'left' or tonumber(presence)) then
    malformed(seats_key(game), value, "a seat's claim, presence and digest")
  end
  return { claimed = claim == '+', presence = presence, digest = digest, visit = visit }
end

-- nil: whoever has opened the game keeps no such seats.
local function seat_of(game, user)
  local value = read('a hash', 'HGET', seats_key(game), user)
  return value and read_seat(game, value)
end

local function set_seat(game, user, seat)
  local claim = seat.claimed and '+' or '-'
  local visit = seat.presence == 'here' and ' ' .. seat.visit or ''
  redis.call('HSET', seats_key(game), user, claim .. ' ' .. seat.presence .. ' ' .. seat.digest .. visit)
end

-- Whether a request with that digest of a secret, '' for none, is the user's as far as can be told.
local function opens(seat, digest)
  if digest == '' then return not (seat and seat.claimed) end
  return seat and seat.digest == digest
end

local function is_attended(game)
  for _, value in ipairs(read('a hash', 'HVALS', seats_key(game))) do
    if read_seat(game, value).presence == 'here' then return true end
  end
  return false
end

-- Notes of a game that waits for players that it is out of the lists of open ones until somebody comes to it.
local function set_hidden(game)
  local hidden, left = 'games:' .. game .. ':hidden', redis.call('PTTL', 'games:' .. game .. ':status')
  redis.call('SET', hidden, '')
  if left > 0 then redis.call('PEXPIRE', hidden, left) end
end
