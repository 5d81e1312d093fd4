-- refused
-- says: several roots
select id, name from category union all select id, name from author
