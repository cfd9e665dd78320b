-- ARGV: game. Answers status, seats, host, the order, the records, and of each player: token, hero id, attack,
-- health; then the milliseconds that it still waits for players, or nothing.

local function main()
  local game = ARGV[1]
  local status = status_of(game)
  if not status then return { 'none' } end
  local host = 'games:' .. game .. ':host'
  local answer = {
    'ok',
    status,
    digits(seats_of(game)),
    text(host) or malformed(host, nil, "the opener's token"),
    read('a list', 'LRANGE', 'games:' .. game .. ':order', 0, -1),
    read('a list', 'LRANGE', 'games:' .. game .. ':logs', 0, -1),
  }
  local fighters = {}
  for _, user in ipairs(players_of(game)) do
    fighters[#fighters + 1] = user
    for _, field in ipairs({ 'id', 'attack', 'health' }) do
      fighters[#fighters + 1] = digits(points(game, user, field))
    end
  end
  answer[#answer + 1] = fighters
  local until_ms = status == 'Waiting Lobby'
    and read('a sorted set', 'ZSCORE', 'games:waiting', timed(game, seats_of(game)))
  answer[#answer + 1] = until_ms and digits(math.max(tonumber(until_ms) - now_ms(), 0)) or ''
  return answer
end
