-- accepted
-- key: tenant,id
-- identity: project(tenant,id) ticket_note(tenant,ticket)
select t.tenant, t.id, t.title, pr.name as project, m.name as assignee,
       (select array_agg(n.note order by n.id) from ticket_note n
         where n.tenant = t.tenant and n.ticket = t.id) as notes
  from ticket t
  join project pr on pr.tenant = t.tenant and pr.id = t.project
  left join member m on m.tenant = t.tenant and m.id = t.assignee
