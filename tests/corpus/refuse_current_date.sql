-- refused
-- says: current_date
select id, published::date = current_date as today from post
