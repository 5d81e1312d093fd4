-- accepted
-- key: tenant,id
-- identity: ticket(tenant,project)
select pr.tenant, pr.id, pr.name, count(t.id) as open
  from project pr
  left join ticket t on t.tenant = pr.tenant and t.project = pr.id and t.state = 'open'
 group by pr.tenant, pr.id
