-- accepted
-- key: id
-- identity: comment(post_id) author(id)
select p.id, p.slug, p.title, a.name as author,
       (select count(*) from comment c where c.post_id = p.id and not c.hidden) as comments,
       exists (select from comment c where c.post_id = p.id and c.author_id = p.author_id)
         as answered
  from post p left join author a on a.id = p.author_id
