-- ARGV: game, user, the digest of the seat's secret or nothing, milliseconds that a game is kept after it has timed out, the visit.

local function main()
  local game, user, digest, kept_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
  local status = status_of(game)
  if not status then return { 'refused', 'UnknownGame' } end
  if read('a set', 'SISMEMBER', 'games:' .. game, user) == 0 then return { 'refused', 'NotAPlayer' } end
  local seat = seat_of(game, user)
  if not opens(seat, digest) then return { 'refused', 'WrongSeat' } end
  if not seat then return { 'ok' } end

  local open = false
  local seats, until_ms
  if status == 'Waiting Lobby' then
    seats = seats_of(game)
    until_ms = tonumber(read('a sorted set', 'ZSCORE', 'games:waiting', timed(game, seats)) or nil)
    open = until_ms and (not is_attended(game) or redis.call('EXISTS', 'games:' .. game .. ':hidden') == 1)
  end
  read('a sorted set', 'ZCARD', 'seats:' .. user)

  seat.claimed = seat.claimed or digest ~= ''
  seat.presence, seat.visit = 'here', ARGV[5]
  set_seat(game, user, seat)
  redis.call('ZREM', 'seats:' .. user, game)
  if open then
    leave_open(game, seats)
    redis.call('DEL', 'games:' .. game .. ':hidden')
    redis.call('RPUSH', 'games:attended:' .. digits(seats), game)
  end
  if until_ms and until_ms <= now_ms() then give_up(game, seats, kept_ms) end
  return { 'ok' }
end
