-- A small shop, and the role that pgbridge connects as: never a superuser.
create table category (
    id integer primary key,
    name text not null
);
create table product (
    id bigint generated always as identity primary key,
    title text not null,
    price numeric(10, 2) not null,
    category_id integer not null references category
);
insert into category values (1, 'books'), (2, 'toys');
insert into product (title, price, category_id)
select 'product ' || i, 5 + i % 40, 1 + i % 2 from generate_series(1, 1000) i;

create role bridge login replication password 'bridge';
grant create on database shop to bridge;
grant select on category, product to bridge;
-- Only the owner of a table may publish it.
create publication pgbridge for table category, product
    with (publish_via_partition_root = true);
