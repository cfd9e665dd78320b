-- ARGV: how many to look after, milliseconds that a game is kept after it has timed out, the most games that are kept, the most users,
-- milliseconds that a user is kept, and of how many unattended seats of a user the games are kept. Answers 1 when nothing is left to do, else 0.

local function forget_started(game, seats)
  -- It is one of the oldest there.
  redis.call('LREM', 'games:players:' .. digits(seats), 1, game)
  redis.call('ZREM', 'games:participants', game)
  redis.call('DEL', unpack(keys_of(game, players_of(game))))
end

-- The members of a sorted set of times whose time is over, and the first ones of more than `most`.
local function due(key, now, most, at_once)
  local members = read('a sorted set', 'ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, at_once)
  local over = math.min(redis.call('ZCARD', key) - most, at_once)
  return over > #members and redis.call('ZRANGE', key, 0, over - 1) or members
end

local function main()
  local at_once, kept_ms, now = tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms()
  local given_up = sweep_waiting(now, at_once, kept_ms, tonumber(ARGV[6]))
  local games = due('games:started', now, tonumber(ARGV[3]), at_once)
  for _, member in ipairs(games) do
    redis.call('ZREM', 'games:started', member)
    local game, seats = string.match(member, '^(%S+) (%d+)$')
    if game then pcall(forget_started, game, tonumber(seats)) end
  end
  local users = due('users:seen', now - tonumber(ARGV[5]), tonumber(ARGV[4]), at_once)
  for _, name in ipairs(users) do
    redis.call('ZREM', 'users:seen', name)
    redis.pcall('HDEL', 'users', name)
  end
  local is_done = given_up < at_once and #games < at_once and #users < at_once
  return { 'ok', is_done and '1' or '0' }
end
