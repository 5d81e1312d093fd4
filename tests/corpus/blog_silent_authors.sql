-- accepted
-- key: id
-- identity: post(author_id)
select a.id, a.name from author a
 where not exists (select from post p where p.author_id = a.id)
