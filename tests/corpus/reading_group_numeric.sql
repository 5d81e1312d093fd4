-- refused
-- says: several texts
select value, count(*) from reading group by value
