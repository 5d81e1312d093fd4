-- Records the owner and the epoch that writes from now on, unless another is there.
-- A mark that is none or no number is one that counts from the start.
-- KEYS owner, mark   ARGV owner, epoch
-- gives {owner found, epoch found}, both '' when there were none

local owner = redis.call('HGET', KEYS[1], 'owner')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if (not owner or owner == ARGV[1])
    and (not epoch or tonumber(epoch) <= tonumber(ARGV[2])) then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', ARGV[2])
  local mark = redis.call('MGET', KEYS[2])[1]
  if not mark or #mark > 15 or not string.find(mark, '^%d+$') then
    redis.call('SET', KEYS[2], '0')
  end
end
return {owner or '', epoch or ''}
