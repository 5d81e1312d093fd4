-- Whoever alters something that views may stand on puts a notice into the log, where it
-- holds: the daemon looks there before it goes on. Only a superuser may install it, and
-- so it belongs to one: what runs with everybody's rights is nobody else's to replace.
--
-- It fails for nobody: whatever goes wrong here, what was asked for is done.
drop function if exists bridge.notice_v1();  -- else it would stay with who made it

create function bridge.notice_v1()
returns event_trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_event = 'sql_drop' then
        perform
        from pg_event_trigger_dropped_objects() d
        where not d.is_temporary
            and d.object_type in (
                'table', 'table column', 'table constraint', 'index', 'view', 'rule',
                'function', 'type', 'domain constraint', 'policy', 'publication',
                'publication relation', 'publication namespace', 'schema'
            );
    else
        -- Of tables only those that are published, and their partitions.
        perform
        from pg_event_trigger_ddl_commands() c
        where c.schema_name is distinct from 'pg_temp'
            and (
                c.classid <> 'pg_class'::regclass
                or exists (
                    select
                    from pg_class r
                    where r.oid = c.objid and r.relkind = 'v'
                )
                or exists (
                    select
                    from pg_publication_rel p
                    where p.prrelid = c.objid
                        or p.prrelid in (
                            select a.relid from pg_partition_ancestors(c.objid) a
                        )
                )
            );
    end if;
    if found then
        perform pg_logical_emit_message(true, 'pgbridge', 'altered');
    end if;
exception
    when others then
        null;
end
$$;

revoke all on function bridge.notice_v1() from public;

create event trigger pgbridge_altered on ddl_command_end
when tag in (
    'ALTER DOMAIN', 'ALTER FUNCTION', 'ALTER POLICY', 'ALTER PUBLICATION',
    'ALTER SCHEMA', 'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'CREATE FUNCTION',
    'CREATE POLICY', 'CREATE PUBLICATION', 'CREATE RULE', 'CREATE TABLE', 'CREATE VIEW'
)
execute function bridge.notice_v1();

create event trigger pgbridge_dropped on sql_drop
execute function bridge.notice_v1();
