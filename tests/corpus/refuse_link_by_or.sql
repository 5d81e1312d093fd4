-- refused
-- says: cannot be followed
select c.id, p.name from company c
  left join person p on p.company_id = c.id
  left join coupon k on k.code = c.name or k.code = p.name
