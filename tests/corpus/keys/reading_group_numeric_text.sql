-- public.reading reading (value)
select distinct CAST(changed.value AS text)
  from (select ("x"."c1")::"pg_catalog"."numeric" as "value" from rows from (pg_catalog.unnest($1::pg_catalog.text[])) as "x"("c1")) as "changed"
