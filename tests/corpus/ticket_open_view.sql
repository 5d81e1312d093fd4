-- accepted
-- key: tenant,id
-- identity: member(tenant,id)
select * from open_ticket
