-- refused
-- says: inherit
select id, wheels from vehicle
