-- refused
-- says: Postgres itself
select oid, relname::text from pg_catalog.pg_class
