-- accepted
-- key: id
-- identity: deal(company_id) person(company_id)
select c.id, c.name,
       (select count(*) from person p where p.company_id = c.id) as people,
       (select sum(d.amount) from deal d where d.company_id = c.id and d.stage = 'won')
         as won
  from company c
