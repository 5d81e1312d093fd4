-- accepted
-- key: id
-- functions: public.plus_tax
select p.id, plus_tax(p.price) as gross from product p
