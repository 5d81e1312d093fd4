-- refused
-- says: partition
select id, at, level from event_2024
