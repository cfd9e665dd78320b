-- ARGV: game, milliseconds until its keys go.

local function main()
  local game, expiry_ms = ARGV[1], ARGV[2]
  local seats_key = 'games:' .. game .. ':participants'
  local seats = text(seats_key)
  if seats then
    seats = whole(seats_key, seats)
    read('a list', 'LLEN', 'games:players:' .. digits(seats))
    read('a list', 'LLEN', 'games:open:' .. digits(seats))
    read('a list', 'LLEN', 'games:attended:' .. digits(seats))
    read('a sorted set', 'ZCARD', 'games:waiting')
    read('a sorted set', 'ZCARD', 'games:started')
  end
  read('a sorted set', 'ZSCORE', 'games:participants', game)
  local players = players_of(game)

  if seats then
    redis.call('LREM', 'games:players:' .. digits(seats), 0, game)
    leave_open(game, seats)
    redis.call('ZREM', 'games:waiting', timed(game, seats))
    redis.call('ZREM', 'games:started', timed(game, seats))
  end
  redis.call('ZREM', 'games:participants', game)
  for _, key in ipairs(keys_of(game, players)) do redis.call('PEXPIRE', key, expiry_ms) end
  return { 'ok' }
end
