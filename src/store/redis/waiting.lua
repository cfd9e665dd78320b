-- The end of games whose seats are not filled.

-- Takes a game that waits for players out of all lists.
local function forget(game, seats)
  leave_open(game, seats)
  redis.call('ZREM', 'games:waiting', timed(game, seats))
  -- It is one of the newest there.
  redis.call('LREM', 'games:players:' .. digits(seats), -1, game)
  redis.call('ZREM', 'games:participants', game)
end

-- A game waits no more. Its keys go after a while, for the sake of those who come late to its lobby.
local function give_up(game, seats, kept_ms)
  local keys = keys_of(game, players_of(game))
  forget(game, seats)
  set_status(game, 'Timed Out')
  publish(game, 'timed-out')
  for _, key in ipairs(keys) do
    local left = redis.call('PTTL', key)
    if left == -1 or left > kept_ms then redis.call('PEXPIRE', key, digits(kept_ms)) end
  end
end

-- Whether somebody may still ask for a game that nobody attends: not where one of its players takes many seats and comes to none.
local function may_be_asked_for(players, trusted)
  for _, user in ipairs(players) do
    if read('a sorted set', 'ZCARD', 'seats:' .. user) > trusted then return false end
  end
  return true
end

-- A game's time is over.
local function expire_waiting(game, seats, kept_ms, trusted)
  local waits, players = status_of(game) == 'Waiting Lobby', players_of(game)
  local keys = keys_of(game, players)
  if waits and (is_attended(game) or may_be_asked_for(players, trusted)) then return give_up(game, seats, kept_ms) end
  if waits then
    publish(game, 'timed-out')
    redis.call('DEL', unpack(keys))
  end
  forget(game, seats)
end

-- Ends games whose time is over, so many at most; answers how many that were. What others wrote into such a game keeps it from being
-- ended, and nobody else from anything.
local function sweep_waiting(now, most, kept_ms, trusted)
  local due = read('a sorted set', 'ZRANGEBYSCORE', 'games:waiting', '-inf', now, 'LIMIT', 0, most)
  for _, member in ipairs(due) do
    redis.call('ZREM', 'games:waiting', member)
    local game, seats = string.match(member, '^(%S+) (%d+)$')
    if game then pcall(expire_waiting, game, tonumber(seats), kept_ms, trusted) end
  end
  return #due
end
