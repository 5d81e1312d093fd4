-- refused
-- says: several texts
select mail, count(*) as people from person group by mail
