-- refused
-- says: several tables
select c.name, d.stage, count(*) from company c join deal d on d.company_id = c.id
 group by c.name, d.stage
