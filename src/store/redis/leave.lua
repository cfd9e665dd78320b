-- ARGV: game, user.

local function main()
  local game, user = ARGV[1], ARGV[2]
  local seat = status_of(game) == 'Waiting Lobby' and seat_of(game, user)
  if not seat then return { 'ok' } end
  local seats = seats_of(game)

  seat.presence = 'left'
  set_seat(game, user, seat)
  leave_open(game, seats)
  set_hidden(game)
  return { 'ok' }
end
