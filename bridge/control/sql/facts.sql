-- Of each root table what its views stand on: how it is described, the publication that
-- has it, and the tables with rows behind it, each with its file and its identity.
-- Takes no lock: whoever alters one of these tables now is not waited for.
with recursive tree as (
    select c.oid as root, c.oid, c.relkind, '' as joined
    from pg_class c
    where c.oid = any(%(oids)s::oid[])
    union all
    select t.root, l.oid, l.relkind, concat_ws('/', t.joined, i.xmin)
    from tree t
    join pg_inherits i on i.inhparent = t.oid and not i.inhdetachpending
    join pg_class l on l.oid = i.inhrelid
    where t.relkind = 'p'
)
select
    c.oid::int8 as oid,
    jsonb_build_object(
        'table', jsonb_build_array(
            n.nspname,
            c.relname,
            c.relpersistence,
            c.relrowsecurity,
            c.relforcerowsecurity,
            -- Tables that inherit from it, which a partitioned one has not.
            c.relkind <> 'p' and exists (
                select from pg_inherits i where i.inhparent = c.oid
            ),
            has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
        ),
        'columns', (
            select jsonb_agg(
                jsonb_build_array(
                    a.attname, a.attnum, a.atttypid::int8, a.atttypmod, a.attnotnull,
                    a.attgenerated, a.attcollation::int8
                )
                order by a.attnum
            )
            from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        -- Another one after each alteration of a column or of what computes it.
        'altered', (
            select md5(string_agg(concat_ws('/', a.attnum, a.xmin, d.xmin), ','
                order by a.attnum))
            from pg_attribute a
            left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'partitioned', c.relkind = 'p',
        'published', (
            select jsonb_build_array(p.oid::int8, p.xmin::text, r.oid::int8)
            from pg_publication p
            left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
            where p.pubname = %(publication)s
        ),
        -- It, and the partitions that have partitions of their own.
        'branches', (
            select jsonb_agg(t.oid::int8 order by t.oid)
            from tree t
            where t.root = c.oid and t.relkind = 'p'
        ),
        -- When each became a part of it: one that was away meanwhile, for however
        -- short a time, may have been written to without an event.
        'joined', (
            select jsonb_object_agg(t.oid::text, t.joined)
            from tree t
            where t.root = c.oid and t.relkind <> 'p' and t.joined <> ''
        ),
        -- When each was last given its identity: one that had another one meanwhile, for
        -- however short a time, may have been written to without its old values. A whole
        -- row's has no index; a GRANT writes the same row of the catalog.
        'identified', (
            select jsonb_object_agg(
                l.oid::text,
                case l.relreplident
                    when 'i' then jsonb_build_array(i.xmin::text, '')
                    else jsonb_build_array(l.xmin::text, coalesce(l.relacl::text, ''))
                end
            )
            from tree t
            join pg_class l on l.oid = t.oid
            left join pg_index i on i.indrelid = l.oid and i.indisreplident
            where t.root = c.oid and t.root <> t.oid and t.relkind <> 'p'
                and l.relreplident in ('i', 'f')
        ),
        'leaves', (
            select jsonb_object_agg(
                l.oid::text,
                jsonb_build_array(
                    l.relfilenode::int8,
                    l.relpersistence,
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
            from tree t
            join pg_class l on l.oid = t.oid
            where t.root = c.oid and t.relkind <> 'p'
        )
    ) as facts
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.oid = any(%(oids)s::oid[]);
