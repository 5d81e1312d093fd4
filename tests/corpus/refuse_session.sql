-- refused
-- says: current_user
select id, current_user as who from product
