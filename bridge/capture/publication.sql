-- In the order of PublicationState's fields.
select p.oid::int8 as oid,
       p.puballtables as all_tables,
       exists (select from pg_catalog.pg_publication_namespace s
                where s.pnpubid = p.oid) as whole_schemas,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_kinds,
       p.pubviaroot as via_root,
       -- From Postgres 18 on: n or s.
       coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') = 's' as generated,
       coalesce(
         (select pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_array(
                     n.nspname, c.relname, c.oid::int8, r.oid::int8,
                     r.prqual is not null, r.prattrs::text)
                   order by n.nspname, c.relname)
            from pg_catalog.pg_publication_rel r
            join pg_catalog.pg_class c on c.oid = r.prrelid
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where r.prpubid = p.oid), '[]') as tables
  from pg_catalog.pg_publication p
 where p.pubname = %s
