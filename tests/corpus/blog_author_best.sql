-- accepted
-- key: id
-- identity: post(author_id)
select a.id, a.name,
       (select json_agg(json_build_object('slug', t.slug, 'likes', t.likes) order by t.n)
          from (select p.slug, p.likes, p.author_id,
                       row_number() over (partition by p.author_id
                                          order by p.likes desc, p.id) as n
                  from post p) t
         where t.author_id = a.id and t.n <= 3) as best
  from author a
