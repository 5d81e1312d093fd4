-- accepted
-- key: name
-- identity: person(manager_id,name)
select m.name, count(*) as reports
  from person p left join person m on m.id = p.manager_id group by m.name
