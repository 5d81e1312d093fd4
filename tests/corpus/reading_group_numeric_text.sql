-- accepted
-- key: value
-- identity: reading(value)
select value::text as value, count(*) as readings from reading group by value::text
