-- Forgets the owner and what is kept for one of its sinks; another owner's stays.
-- KEYS owner, mark, lost, beat   ARGV owner

if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  redis.call('DEL', unpack(KEYS))
end
return 0
