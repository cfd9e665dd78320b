-- ARGV: game, milliseconds until its keys go.

local function main()
  local game, expiry_ms = ARGV[1], ARGV[2]
  local seats_key = 'games:' .. game .. ':participants'
  local seats = text(seats_key)
  if seats then
    seats = digits(whole(seats_key, seats))
    read('a list', 'LLEN', 'games:players:' .. seats)
    read('a list', 'LLEN', 'games:open:' .. seats)
  end
  read('a sorted set', 'ZSCORE', 'games:participants', game)
  local players = players_of(game)

  if seats then
    redis.call('LREM', 'games:players:' .. seats, 0, game)
    redis.call('LREM', 'games:open:' .. seats, 0, game)
  end
  redis.call('ZREM', 'games:participants', game)
  redis.call('PEXPIRE', 'games:' .. game, expiry_ms)
  for _, kind in ipairs({ 'participants', 'status', 'host', 'order', 'superheros', 'logs' }) do
    redis.call('PEXPIRE', 'games:' .. game .. ':' .. kind, expiry_ms)
  end
  for _, user in ipairs(players) do redis.call('PEXPIRE', fighter_key(game, user), expiry_ms) end
  return { 'ok' }
end
