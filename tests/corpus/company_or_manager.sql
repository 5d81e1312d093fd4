-- accepted
-- key: id
-- identity: deal(company_id,person_id)
select p.id, (select count(*) from deal d
               where d.person_id = p.id or d.company_id = p.company_id) as deals
  from person p
