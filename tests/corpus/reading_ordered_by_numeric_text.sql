-- accepted
-- key: id
-- identity: reading(device)
select d.id, (select array_agg(r.value order by r.value, r.value::text) from reading r where r.device = d.id) as values
  from device d
