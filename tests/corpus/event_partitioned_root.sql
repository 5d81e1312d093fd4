-- accepted
-- key: id,at
-- identity: device(id)
select e.id, e.at, e.level, e.payload, d.name from event e join device d on d.id = e.device
