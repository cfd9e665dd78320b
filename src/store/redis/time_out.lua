-- ARGV: game, call, seconds to remember it. Answers ok to the call that timed the game out (see forfeit.lua), else none.

local function main()
  local game, call, kept_secs = ARGV[1], 'requests:' .. ARGV[2], ARGV[3]
  if text(call) then return { 'ok' } end
  if status_of(game) ~= 'Waiting Lobby' then return { 'none' } end
  local seats = seats_of(game)
  read('a list', 'LLEN', 'games:open:' .. digits(seats))

  redis.call('SET', call, 'time out', 'EX', kept_secs)
  set_status(game, 'Timed Out')
  leave_open(game, seats)
  publish(game, 'timed-out')
  return { 'ok' }
end
