-- accepted
-- key: id
-- identity: event(device)
select d.id, d.name,
       (select count(*) from event e where e.device = d.id and e.level = 'warn') as warnings,
       last.at as last_seen
  from device d
  left join lateral (select e.at from event e where e.device = d.id
                      order by e.at desc, e.id limit 1) last on true
