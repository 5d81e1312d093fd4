-- Whether this role may install event triggers, and whether the bridge's are there.
select r.rolsuper as may,
       exists (
           select
           from pg_event_trigger e
           join pg_proc p on p.oid = e.evtfoid
           where p.pronamespace = to_regnamespace('bridge')
       ) as there
from pg_roles r
where r.rolname = current_user
