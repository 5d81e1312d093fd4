-- accepted
-- key: slug
-- given
select slug, title, published::date as day from post
