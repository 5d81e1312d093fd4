-- accepted
-- key: id
-- identity: post(author_id) comment(author_id)
select a.id, (select jsonb_agg(f.what order by f.what)
                from (select p.title as what from post p where p.author_id = a.id
                      union all
                      select c.body from comment c where c.author_id = a.id) f) as feed
  from author a
