-- The publication of that name: its tables, what it publishes, and who owns it.
select p.puballtables as all_tables,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_kinds,
       p.pubviaroot as via_root,
       pg_has_role(p.pubowner, 'member') as is_ours,
       array(select format('%%I.%%I', n.nspname, c.relname)
               from pg_publication_rel r
               join pg_class c on c.oid = r.prrelid
               join pg_namespace n on n.oid = c.relnamespace
              where r.prpubid = p.oid
              order by 1) as tables,
       exists (select from pg_publication_rel r
                where r.prpubid = p.oid
                  and (r.prqual is not null or r.prattrs is not null)) as is_partial,
       exists (select from pg_publication_namespace s where s.pnpubid = p.oid)
           as has_schemas
  from pg_publication p
 where p.pubname = %(publication)s
