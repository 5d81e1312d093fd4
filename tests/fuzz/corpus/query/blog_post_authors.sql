-- accepted
-- key: id
-- identity: post_author(post_id)
select p.id, string_agg(a.name, ', ' order by pa.rank) as authors
  from post p
  join post_author pa on pa.post_id = p.id
  join author a on a.id = pa.author_id
 group by p.id
