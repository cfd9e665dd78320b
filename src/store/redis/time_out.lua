-- ARGV: game, call, seconds to remember it, milliseconds that a game is kept after it has timed out. Answers ok to the call that timed
-- the game out (see forfeit.lua), else none.

local function main()
  local game, call, kept_secs, kept_ms = ARGV[1], 'requests:' .. ARGV[2], ARGV[3], tonumber(ARGV[4])
  if text(call) then return { 'ok' } end
  if status_of(game) ~= 'Waiting Lobby' then return { 'none' } end
  local seats = seats_of(game)
  read('a list', 'LLEN', 'games:open:' .. digits(seats))
  read('a list', 'LLEN', 'games:attended:' .. digits(seats))
  read('a list', 'LLEN', 'games:players:' .. digits(seats))
  read('a sorted set', 'ZCARD', 'games:waiting')
  read('a sorted set', 'ZCARD', 'games:participants')

  redis.call('SET', call, 'time out', 'EX', kept_secs)
  give_up(game, seats, kept_ms)
  return { 'ok' }
end
