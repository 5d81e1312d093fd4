-- refused
-- says: now()
select id, title, now() - published as age from post
