-- Of each root table what its views stand on: its columns, the publication that has it,
-- and the tables with rows behind it, each with its file and its identity.
select
    c.oid::int8 as oid,
    jsonb_build_object(
        'name', n.nspname || '.' || c.relname,
        'columns', (
            select jsonb_agg(
                jsonb_build_array(
                    a.attname, a.attnum, a.atttypid::int8, a.atttypmod, a.attgenerated
                )
                order by a.attnum
            )
            from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'published', (
            select jsonb_build_array(p.oid::int8, p.xmin::text, r.oid::int8)
            from pg_publication p
            left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
            where p.pubname = %(publication)s
        ),
        'leaves', (
            select jsonb_object_agg(
                l.oid::text,
                jsonb_build_array(
                    l.relfilenode::int8,
                    l.relreplident,
                    (
                        select i.indkey::text
                        from pg_index i
                        where i.indrelid = l.oid and i.indisvalid
                            and case l.relreplident
                                when 'd' then i.indisprimary
                                when 'i' then i.indisreplident
                                else false
                            end
                    )
                )
            )
            from pg_class l
            where l.oid = c.oid and c.relkind <> 'p'
                or l.oid in (
                    select t.relid
                    from pg_partition_tree(c.oid) t
                    where c.relkind = 'p' and t.isleaf
                )
        )
    ) as facts
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = any(%(oids)s::oid[]);
