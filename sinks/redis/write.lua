-- Carries out one request: each operation unless an equal or newer version is there.
--
-- Versions are compared as zero-padded strings: Lua's numbers are exact to 53 bits.
-- What grows is written first (versions, then values), so that a server at its limit
-- of memory refuses the request as a whole before anything was changed.
--
-- KEYS  mark, lost, generations, count, live, n versions, n values
-- ARGV  n, number of the request, mark that must be there, generation, encoding,
--       time to live in ms (0: none), channel ('': none), tombstone in s,
--       n versions, then for each operation '' (a delete), the document (json) or how
--       many arguments follow and these, fields and values (hash); then n messages
--       when there is a channel. Encoding none has no versions and no documents
-- gives the mark found ('': none), how many were superseded (-1: the generation is not
--       there, nothing was done), and the indexes of those refused, from 0

local HEAD = 5
local FIRST = 8

-- The mark as it was found; nothing where that is no number, which is as good as lost.
local function mark_of(stored)
  if stored and #stored <= 15 and string.find(stored, '^%d+$') then return stored end
  return false
end

-- This call is about to cover the gap: the number of the request is left as a note.
local function note_loss(keys, found, expected, number)
  if not found or tonumber(found) < expected then
    redis.call('SET', keys[2], number)
  end
end

-- The members of `fresh` whose value is there and of another type, as a set. One
-- EXISTS asks for all, since nearly always there is nothing.
local function in_the_way(keys, values, fresh, type)
  local wrong = {}
  if #fresh == 0 then return wrong end
  local names = {}
  for i, op in ipairs(fresh) do names[i] = keys[values + op] end
  if redis.call('EXISTS', unpack(names)) > 0 then
    for i, op in ipairs(fresh) do
      local found = redis.call('TYPE', names[i]).ok
      if found ~= type and found ~= 'none' then wrong[op] = true end
    end
  end
  return wrong
end

local function publish(keys, args, applied, first)
  if args[7] ~= '' and redis.call('GET', keys[5]) == args[4] then
    for _, op in ipairs(applied) do
      redis.call('PUBLISH', args[7], args[first + op])
    end
  end
end

-- Encoding `none`: no versions and no values, every key is deleted.
local function invalidate(keys, args, n, found)
  if n > 0 then redis.call('UNLINK', unpack(keys, HEAD + 1, HEAD + n)) end
  local applied = {}
  for op = 1, n do applied[op] = op end
  publish(keys, args, applied, FIRST)
  return {found or '', 0, {}}
end

local function put_hashes(keys, args, values, starts, puts, ttl)
  for _, op in ipairs(puts) do
    local name, start = keys[values + op], starts[op]
    redis.call('UNLINK', name)
    local length = tonumber(args[start])
    if length > 0 then
      redis.call('HSET', name, unpack(args, start + 1, start + length))
      if ttl ~= '0' then redis.call('PEXPIRE', name, ttl) end
    end
  end
end

local function write(keys, args)
  local n, none = tonumber(args[1]), args[5] == 'none'
  local read = HEAD + (none and 0 or n)
  local olds = redis.call('MGET', keys[1], unpack(keys, HEAD + 1, read))
  local found = mark_of(olds[1])
  note_loss(keys, found, tonumber(args[3]), args[2])
  if redis.call('HEXISTS', keys[3], args[4]) == 0 then return {found or '', -1, {}} end

  local superseded, refused = 0, {}
  local sets, j = {}, 0
  if not found or tonumber(found) < tonumber(args[2]) then
    sets[1], sets[2], j = keys[1], args[2], 2
  end
  if none then
    if j > 0 then redis.call('MSET', unpack(sets)) end
    return invalidate(keys, args, n, found)
  end

  local hash, ttl = args[5] == 'hash', args[6]
  local values = HEAD + n
  local starts, last = {}, FIRST + n
  local fresh = {}
  for op = 1, n do
    if not olds[op + 1] then fresh[#fresh + 1] = op end
    last = last + 1
    starts[op] = last
    if hash then last = last + (tonumber(args[last]) or 0) end
  end
  local wrong = in_the_way(keys, values, fresh, hash and 'hash' or 'string')

  local applied, puts, deletes, gone, grown = {}, {}, {}, {}, 0
  local plain = not hash and ttl == '0'
  for op = 1, n do
    local old, version = olds[op + 1], args[FIRST + op]
    if wrong[op] then
      refused[#refused + 1] = op - 1
    elseif old and string.sub(old, 1, 19) >= string.sub(version, 1, 19) then
      superseded = superseded + 1
    else
      applied[#applied + 1] = op
      local there = old and string.byte(old, 20) ~= 45
      local first = args[starts[op]]
      if first == '' then
        deletes[#deletes + 1] = op
        gone[#gone + 1] = keys[values + op]
        if there then grown = grown - 1 end
      else
        sets[j + 1], sets[j + 2] = keys[HEAD + op], version
        j = j + 2
        if plain then
          sets[j + 1], sets[j + 2] = keys[values + op], first
          j = j + 2
        else
          puts[#puts + 1] = op
        end
        if not there then grown = grown + 1 end
      end
    end
  end

  if j > 0 then redis.call('MSET', unpack(sets)) end
  for _, op in ipairs(deletes) do
    local digits = string.sub(args[FIRST + op], 1, 19)
    redis.call('SET', keys[HEAD + op], digits .. '-', 'EX', args[8])
  end
  if grown ~= 0 then redis.call('INCRBY', keys[4], grown) end
  if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
  if hash then
    put_hashes(keys, args, values, starts, puts, ttl)
  else
    for _, op in ipairs(puts) do
      redis.call('SET', keys[values + op], args[starts[op]], 'PX', ttl)
    end
  end
  publish(keys, args, applied, last)
  return {found or '', superseded, refused}
end
