-- accepted
-- key: company_id,stage
-- identity: deal(company_id,stage)
select d.company_id, d.stage, count(*) as deals, sum(d.amount) as amount
  from deal d group by d.company_id, d.stage
