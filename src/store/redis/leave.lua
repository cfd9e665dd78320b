-- ARGV: game, user, the visit that has ended.

local function main()
  local game, user = ARGV[1], ARGV[2]
  local seat = status_of(game) == 'Waiting Lobby' and seat_of(game, user)
  -- The user may have come another time since, through another server.
  if not seat or seat.presence ~= 'here' or seat.visit ~= ARGV[3] then return { 'ok' } end
  local seats = seats_of(game)

  seat.presence = 'left'
  set_seat(game, user, seat)
  leave_open(game, seats)
  set_hidden(game)
  return { 'ok' }
end
