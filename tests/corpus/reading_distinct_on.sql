-- accepted
-- key: device
-- identity: reading(device)
select distinct on (device) device, value, at from reading order by device, at desc, id
