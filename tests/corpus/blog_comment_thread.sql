-- accepted
-- key: id
-- identity: comment(id)
select c.id, c.body, up.body as reply_to, p.slug
  from comment c
  left join comment up on up.id = c.parent_id
  join post p on p.id = c.post_id
