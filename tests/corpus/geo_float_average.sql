-- refused
-- says: rounds by the order
select p.id, (select avg(v.stars) from visit v where v.place_id = p.id) as stars from place p
