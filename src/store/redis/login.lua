-- ARGV: name, token drawn for it. Answers the name's token; that it is the one drawn tells that the name is new, also
-- when the command is repeated.

local function main()
  local name, drawn = ARGV[1], ARGV[2]
  local known = read('a hash', 'HGET', 'users', name)
  if not known then
    redis.call('HSET', 'users', name, drawn)
    known = drawn
  end
  return { 'ok', known }
end
