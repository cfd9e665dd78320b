-- ARGV: game, moves made before the turn, call, seconds to remember it, rounds, then the record's text before the player
-- and after it. Answers an outcome, or none when the turn is over. The call is drawn for each call of the store, so
-- that the connection's repetition of one is told from another server's call for the same turn.

local function main()
  local game, moves, call, kept_secs = ARGV[1], tonumber(ARGV[2]), 'requests:' .. ARGV[3], ARGV[4]
  local rounds = tonumber(ARGV[5])
  local players = players_of(game)
  if text(call) then return concluded(game, players, moves + 1) end

  if not is_going(status_of(game)) then return { 'none' } end
  if read('a list', 'LLEN', logs_key(game)) ~= moves then return { 'none' } end
  local order = order_of(game)
  local user = order[1]
  points(game, user, 'health')

  redis.call('SET', call, 'forfeit', 'EX', kept_secs)
  redis.call('HSET', fighter_key(game, user), 'health', '0')
  redis.call('LPOP', order_key(game))
  return conclude(game, ARGV[6] .. user .. ARGV[7], players, rounds, #order - 1, order[2])
end
