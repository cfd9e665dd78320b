-- Reading keys. What is not as the table of keys says is told with its key, before the script has written anything.

local GREATEST = 9007199254740992

local function malformed(key, value, expected)
  error({ malformed = { key, string.sub(tostring(value or ''), 1, 200), expected } })
end

-- A reading command on a key that has to be of one type: Redis's own error does not say which key was of another.
local function read(expected, command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) then
      malformed(key, redis.call('TYPE', key).ok, expected)
    end
    error(answer)
  end
  return answer
end

local function text(key)
  return read('a string', 'GET', key) or nil
end

local function whole(key, value)
  local number = value and string.match(value, '^%d+$') and tonumber(value)
  if not number or number > GREATEST then malformed(key, value, 'a whole number') end
  return number
end

-- Lua would write 1e+15.
local function digits(number)
  return string.format('%.0f', number)
end

local STATUSES = {
  ['Waiting Lobby'] = true, ['Starting'] = true, ['In-Progress'] = true,
  ['Waiting Player'] = true, ['Completed'] = true, ['Timed Out'] = true,
}

-- nil: the game is not known.
local function status_of(game)
  local key = 'games:' .. game .. ':status'
  local status = text(key)
  if status and not STATUSES[status] then malformed(key, status, 'a status') end
  return status
end

local function is_going(status)
  return status == 'In-Progress' or status == 'Waiting Player'
end

-- KEEPTTL: a game that was given its expiry keeps it.
local function set_status(game, status)
  redis.call('SET', 'games:' .. game .. ':status', status, 'KEEPTTL')
end

local function seats_of(game)
  local key = 'games:' .. game .. ':participants'
  return whole(key, text(key))
end

local function players_of(game)
  return read('a set', 'SMEMBERS', 'games:' .. game)
end

local function fighter_key(game, user)
  return 'games:' .. game .. ':superheros:' .. user
end

local function points(game, user, field)
  local key = fighter_key(game, user)
  return whole(key, read('a hash', 'HGET', key, field) or nil)
end

local function publish(game, event)
  redis.call('PUBLISH', 'games:' .. game .. ':events', event)
end

-- Servers have clocks of their own; this one all of them share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Takes a game out of the lists of open ones; most often it is among the first there.
local function leave_open(game, seats)
  if redis.call('LREM', 'games:attended:' .. digits(seats), 1, game) == 0 then
    redis.call('LREM', 'games:open:' .. digits(seats), 1, game)
  end
end

-- A game in a sorted set of times, with its seats, which have to be known when its own keys are gone.
local function timed(game, seats)
  return game .. ' ' .. digits(seats)
end

local function keys_of(game, players)
  local keys = {}
  for _, kind in ipairs({ '', ':participants', ':status', ':host', ':order', ':superheros', ':logs', ':seats', ':hidden' }) do
    keys[#keys + 1] = 'games:' .. game .. kind
  end
  for _, user in ipairs(players) do keys[#keys + 1] = fighter_key(game, user) end
  return keys
end
