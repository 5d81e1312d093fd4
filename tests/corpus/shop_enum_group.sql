-- accepted
-- key: state
-- identity: orders(state)
select state, count(*) as orders, max(placed) as newest from orders group by state
