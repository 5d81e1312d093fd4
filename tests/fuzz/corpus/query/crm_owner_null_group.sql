-- accepted
-- key: owner_id
-- identity: company(owner_id)
select c.owner_id, count(*) as companies from company c group by c.owner_id
