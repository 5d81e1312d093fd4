-- refused
-- says: statements
select id from product; select id from author
