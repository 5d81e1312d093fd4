-- accepted
-- key: country
-- identity: customer(country)
select country, count(*) as customers from customer group by country
