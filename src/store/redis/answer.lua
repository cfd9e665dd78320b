
local ok, answer = pcall(main)
if ok then return answer end
if type(answer) == 'table' and answer.malformed then
  return { 'malformed', answer.malformed[1], answer.malformed[2], answer.malformed[3] }
end
if type(answer) == 'table' and answer.err then return answer end
return redis.error_reply(tostring(answer))
