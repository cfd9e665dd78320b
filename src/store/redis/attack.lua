-- ARGV: game, user, enemy, rounds, then the record's text before the damage, between it and the health before, between
-- that and the health after, and to the end, and the digest of the seat's secret or nothing. Answers an outcome or a refusal.

local function contains(players, user)
  for _, player in ipairs(players) do
    if player == user then return true end
  end
  return false
end

local function main()
  local game, user, enemy, rounds, start = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
  local players = players_of(game)

  -- The start names time, game, player and enemy, so whatever begins with it is this attack, made already.
  local recent = #players > 0 and read('a list', 'LRANGE', logs_key(game), -#players, -1) or {}
  for back = 0, #recent - 1 do
    if string.sub(recent[#recent - back], 1, #start) == start then
      return concluded(game, players, redis.call('LLEN', logs_key(game)) - back)
    end
  end

  local status = status_of(game)
  if not status then return { 'refused', 'UnknownGame' } end
  if not is_going(status) then return { 'refused', 'NotInProgress' } end
  if not contains(players, user) then return { 'refused', 'NotAPlayer' } end
  local seat, digest = seat_of(game, user), ARGV[9]
  if not opens(seat, digest) then return { 'refused', 'WrongSeat' } end
  local order = order_of(game)
  local refusal = (order[1] ~= user and 'OutOfTurn')
    or (enemy == user and 'OneSelf')
    or (not contains(players, enemy) and 'EnemyNotInGame')
  local prior = refusal or points(game, enemy, 'health')
  if prior == 0 then refusal = 'EnemyDead' end
  local damage = refusal or points(game, user, 'attack')

  if digest ~= '' and not seat.claimed then
    seat.claimed = true
    set_seat(game, user, seat)
  end
  if refusal then return { 'refused', refusal } end
  local post = math.max(prior - damage, 0)
  local living, following = #order, order[2]
  redis.call('HSET', fighter_key(game, enemy), 'health', digits(post))
  redis.call('LPOP', order_key(game))
  redis.call('RPUSH', order_key(game), user)
  if post == 0 then
    redis.call('LREM', order_key(game), 1, enemy)
    living = living - 1
    if following == enemy then following = order[3] end
  end
  local record = start .. digits(damage) .. ARGV[6] .. digits(prior) .. ARGV[7] .. digits(post) .. ARGV[8]
  return conclude(game, record, players, rounds, living, following)
end
