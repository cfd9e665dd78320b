-- ARGV: hero id and JSON in turn. Replaces the roster; the new one is complete before it takes the old one's place.

local function main()
  redis.call('DEL', 'superheros:loading')
  for i = 1, #ARGV, 2 do redis.call('HSET', 'superheros:loading', ARGV[i], ARGV[i + 1]) end
  if #ARGV == 0 then
    redis.call('DEL', 'superheros')
  else
    redis.call('RENAME', 'superheros:loading', 'superheros')
  end
  return { 'ok' }
end
