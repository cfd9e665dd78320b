-- ARGV: request, seconds to keep its answer, user, seats, token drawn for a new game, how many open games to look at, then
-- id, attack and health of each candidate hero. Answers game and hero id.

local function joined_game(user, seats, looked_at)
  local open = 'games:open:' .. digits(seats)
  for _, game in ipairs(read('a list', 'LRANGE', open, 0, looked_at - 1)) do
    if status_of(game) ~= 'Waiting Lobby' then
      leave_open(game, seats)
    elseif read('a set', 'SISMEMBER', 'games:' .. game, user) == 0 then
      return game
    end
  end
end

-- By bytes: Lua's own comparison of texts goes by the server's locale, and Danish has "aa" behind "z".
local function comes_before(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

local function main()
  local request, kept_secs, user = 'requests:' .. ARGV[1], ARGV[2], ARGV[3]
  local seats, drawn_game, looked_at = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
  local known = text(request)
  if known then
    local game, hero = string.match(known, '^(%S+) (%d+)$')
    if not game then malformed(request, known, 'a seat') end
    return { 'ok', game, hero }
  end

  local opened = 'games:players:' .. digits(seats)
  read('a list', 'LLEN', opened)
  local joined = joined_game(user, seats, looked_at)
  local game = joined or drawn_game
  read('a sorted set', 'ZSCORE', 'games:participants', game)
  local heroes = 'games:' .. game .. ':superheros'
  local candidate = 7
  while ARGV[candidate] and read('a set', 'SISMEMBER', heroes, ARGV[candidate]) == 1 do
    candidate = candidate + 3
  end
  local hero, attack, health = ARGV[candidate], ARGV[candidate + 1], ARGV[candidate + 2]
  if not hero then malformed(heroes, 'every candidate', 'a set with fewer heroes than seats') end

  if not joined then
    redis.call('SET', 'games:' .. game .. ':status', 'Waiting Lobby')
    redis.call('SET', 'games:' .. game .. ':participants', digits(seats))
    redis.call('SET', 'games:' .. game .. ':host', user)
    redis.call('RPUSH', opened, game)
    redis.call('RPUSH', 'games:open:' .. digits(seats), game)
  end
  redis.call('SADD', 'games:' .. game, user)
  redis.call('SADD', heroes, hero)
  redis.call('DEL', fighter_key(game, user))
  redis.call('HSET', fighter_key(game, user), 'id', hero, 'attack', attack, 'health', health)
  redis.call('SET', request, game .. ' ' .. hero, 'EX', kept_secs)
  local players = players_of(game)
  redis.call('ZADD', 'games:participants', #players, game)

  if #players >= seats then
    leave_open(game, seats)
    table.sort(players, comes_before)
    local order = 'games:' .. game .. ':order'
    redis.call('DEL', order)
    for _, player in ipairs(players) do redis.call('RPUSH', order, player) end
    set_status(game, 'Waiting Player')
    publish(game, 'started')
    publish(game, 'turn ' .. players[1] .. ' 0')
  end
  return { 'ok', game, hero }
end
