-- accepted
-- key: id
-- identity: activity(deal_id)
select d.id, d.stage, c.name,
       (select json_agg(json_build_object('kind', a.kind, 'by', pe.name) order by a.id)
          from activity a left join person pe on pe.id = a.person_id
         where a.deal_id = d.id) as timeline
  from deal d join company c on c.id = d.company_id
