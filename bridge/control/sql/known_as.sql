-- By which cluster's identifier the sinks know the bridge; a schema of an earlier version
-- has no such column.
select coalesce(to_jsonb(s) ->> 'owner', s.system_identifier) as known_as
  from bridge.source s
