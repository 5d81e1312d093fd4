-- accepted
-- key: id
-- identity: region(id) visit(place_id)
select p.id, p.name, p.lat, p.lon, r.name as region, up.name as country,
       (select max(v.day) from visit v where v.place_id = p.id) as last_visit
  from place p
  left join region r on r.id = p.region_id
  left join region up on up.id = r.parent_id
