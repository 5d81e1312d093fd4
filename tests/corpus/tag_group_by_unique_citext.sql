-- accepted
-- key: name
-- identity: tag(name)
select name, count(*) as tags from tag group by name
