-- accepted
-- key: id
-- identity: person(id)
select p.id, p.name, m.name as manager, c.name as company
  from person p
  left join person m on m.id = p.manager_id
  left join company c on c.id = p.company_id
