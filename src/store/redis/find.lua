-- ARGV: request, seconds to keep its answer, user, seats, token drawn for a new game, how many open games to look at, digest of the
-- seat's secret, milliseconds that a new game waits, the most unattended seats of a user, the most overdue ones of one that others are
-- seated with where it is overdue, the most unattended ones of one that they are seated with at all, milliseconds until a seat is overdue,
-- how many games that take nobody to hide, the most games that wait, milliseconds that a game is kept, and after it has timed out, then id, attack and health of each candidate hero.
-- Answers game and hero id, or `full` and of what there is too much.

-- Games whose time is over that a find looks after: more than it opens.
local SWEPT = 4

local HIDDEN_AT_ONCE = tonumber(ARGV[13])
local WAIT_MS, TRUSTED, TRUSTED_NEW, OVERDUE_MS = tonumber(ARGV[8]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])

-- The user's seats that it does not attend though it took them `ms` ago or earlier, and that have not expired.
local function unattended(user, now, ms)
  return read('a sorted set', 'ZCOUNT', 'seats:' .. user, '(' .. digits(now - WAIT_MS), digits(now - ms))
end

-- What was counted of users already: one may have all of the games that are looked at.
local known_seats = {}

-- Whether the user is likely to come to a seat that it took at `since`.
local function is_trusted(user, since, now)
  local seats = known_seats[user]
  if not seats then
    seats = { all = unattended(user, now, 0), overdue = unattended(user, now, OVERDUE_MS) }
    known_seats[user] = seats
  end
  return seats.all <= TRUSTED_NEW and (since > now - OVERDUE_MS or seats.overdue <= TRUSTED)
end

-- Whom a game takes: the user who asks, others where that one has a seat, or nobody, since some who have seats would be waited for in vain
-- as far as can be told; nil where nobody has any, since a server of before has opened the game.
local function welcome(game, user, now)
  local seats = read('a hash', 'HGETALL', seats_key(game))
  local taken_by_asker = false
  for i = 1, #seats, 2 do
    local presence = read_seat(game, seats[i + 1]).presence
    if presence == 'left' then return 'nobody' end
    if presence ~= 'here' and not is_trusted(seats[i], tonumber(presence), now) then return 'nobody' end
    taken_by_asker = taken_by_asker or seats[i] == user
  end
  if #seats == 0 then return nil end
  return taken_by_asker and 'others' or 'asker'
end

-- The first game that takes the user. Those before it that take nobody leave their lists, and cost no later call anything.
local function joined_game(user, seats, looked_at, now)
  local hidden = 0
  for _, list in ipairs({ 'games:attended:', 'games:open:' }) do
    local passed = 0
    repeat
      local games = read('a list', 'LRANGE', list .. digits(seats), passed, looked_at - 1)
      for _, game in ipairs(games) do
        if hidden >= HIDDEN_AT_ONCE then return nil end
        local takes = 'nobody'
        local waits = status_of(game) == 'Waiting Lobby'
        if waits then takes = welcome(game, user, now) end
        if takes == 'asker' then return game end
        if takes == 'others' then
          passed = passed + 1
        else
          hidden = hidden + 1
          redis.call('LREM', list .. digits(seats), 1, game)
          if waits and takes then set_hidden(game) end
          if waits and not takes then redis.call('ZADD', 'games:waiting', 'NX', digits(now), timed(game, seats)) end
        end
      end
    until #games == 0 or passed >= looked_at
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
  local digest, most_seats = ARGV[7], tonumber(ARGV[9])
  local most_games, kept_ms, timed_out_ms = tonumber(ARGV[14]), ARGV[15], tonumber(ARGV[16])
  local known = text(request)
  if known then
    local game, hero = string.match(known, '^(%S+) (%d+)$')
    if not game then malformed(request, known, 'a seat') end
    return { 'ok', game, hero }
  end

  local now, taken = now_ms(), 'seats:' .. user
  local taken_before = unattended(user, now, 0)
  if taken_before >= most_seats then return { 'full', 'seats' } end
  local opened = 'games:players:' .. digits(seats)
  read('a list', 'LLEN', opened)
  local joined = joined_game(user, seats, looked_at, now)
  local game = joined or drawn_game
  read('a sorted set', 'ZSCORE', 'games:participants', game)
  read('a sorted set', 'ZCARD', 'games:started')
  if read('a sorted set', 'ZCARD', 'games:waiting') >= most_games and not joined then return { 'full', 'games' } end
  local heroes = 'games:' .. game .. ':superheros'
  local candidate = 17
  while ARGV[candidate] and read('a set', 'SISMEMBER', heroes, ARGV[candidate]) == 1 do
    candidate = candidate + 3
  end
  local hero, attack, health = ARGV[candidate], ARGV[candidate + 1], ARGV[candidate + 2]
  if not hero then malformed(heroes, 'every candidate', 'a set with fewer heroes than seats') end

  if not joined then
    redis.call('SET', 'games:' .. game .. ':status', 'Waiting Lobby', 'PX', kept_ms)
    redis.call('SET', 'games:' .. game .. ':participants', digits(seats), 'PX', kept_ms)
    redis.call('SET', 'games:' .. game .. ':host', user, 'PX', kept_ms)
    redis.call('RPUSH', opened, game)
    redis.call('ZADD', 'games:waiting', digits(now + WAIT_MS), timed(game, seats))
    -- Once one of too many is attended, it is listed all the same.
    if taken_before < TRUSTED_NEW then redis.call('RPUSH', 'games:open:' .. digits(seats), game) end
  end
  redis.call('SADD', 'games:' .. game, user)
  redis.call('SADD', heroes, hero)
  redis.call('DEL', fighter_key(game, user))
  redis.call('HSET', fighter_key(game, user), 'id', hero, 'attack', attack, 'health', health)
  redis.call('PEXPIRE', fighter_key(game, user), kept_ms)
  set_seat(game, user, { claimed = false, presence = digits(now), digest = digest })
  if not joined then
    for _, key in ipairs({ 'games:' .. game, heroes, seats_key(game) }) do redis.call('PEXPIRE', key, kept_ms) end
  end
  redis.call('ZREMRANGEBYSCORE', taken, '-inf', digits(now - WAIT_MS))
  redis.call('ZADD', taken, digits(now), game)
  -- Longer than they count, for the end of their games.
  redis.call('PEXPIRE', taken, digits(WAIT_MS + timed_out_ms))
  redis.call('SET', request, game .. ' ' .. hero, 'EX', kept_secs)
  local players = players_of(game)
  redis.call('ZADD', 'games:participants', #players, game)

  if #players >= seats then
    leave_open(game, seats)
    redis.call('ZREM', 'games:waiting', timed(game, seats))
    redis.call('ZADD', 'games:started', digits(now + tonumber(kept_ms)), timed(game, seats))
    table.sort(players, comes_before)
    local order = 'games:' .. game .. ':order'
    redis.call('DEL', order)
    for _, player in ipairs(players) do redis.call('RPUSH', order, player) end
    redis.call('PEXPIRE', order, kept_ms)
    set_status(game, 'Waiting Player')
    publish(game, 'started')
    publish(game, 'turn ' .. players[1] .. ' 0')
  end
  sweep_waiting(now, SWEPT, timed_out_ms, TRUSTED)
  return { 'ok', game, hero }
end
