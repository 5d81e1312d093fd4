-- public.ticket t (tenant, id)
-- these are the key

-- public.member m (tenant, id)
select distinct (ticket.tenant)::pg_catalog.text, (ticket.id)::pg_catalog.text
  from (select ("x"."c1")::"pg_catalog"."int4" as "tenant", ("x"."c2")::"pg_catalog"."int4" as "id" from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) as "x"("c1", "c2")) as "changed"
  join "public"."ticket" as "ticket" on (changed.tenant = ticket.tenant) and (changed.id = ticket.assignee)
