-- A small shop. What matters to the bridge stands at the end.
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
create table review (
    id bigint generated always as identity primary key,
    product_id bigint not null references product on delete cascade,
    rating smallint not null check (rating between 1 and 5),
    body text not null
);
create table customer (
    id bigint generated always as identity primary key,
    name text not null
);
create table orders (
    id bigint generated always as identity primary key,
    customer_id bigint not null references customer,
    product_id bigint references product on delete set null,
    status text not null default 'new',
    total numeric(10, 2) not null,
    placed_at timestamptz not null default now()
);

insert into category
select i, (array['books', 'toys', 'garden', 'kitchen', 'music', 'travel'])[i]
  from generate_series(1, 6) i;

insert into product (title, price, category_id)
select format('%s %s %s',
              (array['small', 'large', 'red', 'blue', 'folding'])[1 + i % 5],
              (array['oak', 'steel', 'paper', 'glass', 'wool', 'cork', 'clay'])
                  [1 + i % 7],
              (array['lamp', 'table', 'kite', 'globe', 'kettle', 'drum', 'atlas',
                     'basket', 'clock', 'chair', 'ladder'])[1 + i % 11]),
       5 + i * 37 % 9000 / 100.0,
       1 + i % 6
  from generate_series(1, 2000) i;

insert into review (product_id, rating, body)
select 1 + i * 7919 % 2000, 1 + i % 5,
       (array['does what it should', 'arrived late', 'my third one', 'a fine gift',
              'smaller than I thought'])[1 + i * 13 % 5]
  from generate_series(1, 5000) i;

insert into customer (name)
select 'customer ' || i from generate_series(1, 300) i;

insert into orders (customer_id, product_id, status, total, placed_at)
select 1 + i * 31 % 300, 1 + i * 17 % 2000,
       (array['new', 'paid', 'sent'])[1 + i % 3], 5 + i % 90,
       now() - i * interval '1 minute'
  from generate_series(1, 4000) i;

-- Indexes that make a change of a category or of a product quick to follow.
create index on product (category_id);
create index on review (product_id);
create index on orders (product_id);

-- The old product of a review that moves must be in the log.
create unique index review_bridge on review (id, product_id);
alter table review replica identity using index review_bridge;

-- The role that the daemon connects as: never a superuser. What it may not do itself,
-- publishing tables that it does not own, `pgbridge apply` does as `admin_dsn`.
create role bridge login replication;
grant create on database shop to bridge;
grant select on category, product, review, orders to bridge;

analyze;
