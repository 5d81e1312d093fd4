-- accepted
-- key: id
select id, wheels from only vehicle
