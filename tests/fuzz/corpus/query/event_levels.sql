-- accepted
-- key: level
-- identity: event(level)
select level, count(*) as events from event group by level
