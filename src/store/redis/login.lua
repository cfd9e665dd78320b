-- ARGV: name, token drawn for it, the most users that are kept. Answers the name's token; that it is the one drawn tells that the name is
-- new, also when the command is repeated.

local function main()
  local name, drawn, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
  local known = read('a hash', 'HGET', 'users', name)
  if known and not string.match(known, '^[%x%-]+$') then malformed('users', known, 'a user token') end
  read('a sorted set', 'ZCARD', 'users:seen')
  redis.call('ZADD', 'users:seen', now_ms(), name)
  if not known then
    redis.call('HSET', 'users', name, drawn)
    known = drawn
    if redis.call('HLEN', 'users') > most then
      local oldest = redis.call('ZPOPMIN', 'users:seen')[1]
      if oldest then redis.call('HDEL', 'users', oldest) end
    end
  end
  return { 'ok', known }
end
