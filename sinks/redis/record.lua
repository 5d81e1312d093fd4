-- Notes a position, unless the generation is not there.
-- KEYS generations, positions   ARGV generation, position

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
