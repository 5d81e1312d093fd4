-- The targets that have a generation already.
select distinct sink, name from bridge.generation where state <> 'dropped'
