-- refused
-- says: age()
select id, age(published) as age from post
