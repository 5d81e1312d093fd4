-- A shop, a blog, a CRM, tickets, places, tenants and an event log.
create extension if not exists citext;
create type order_state as enum ('cart', 'placed', 'paid', 'sent');
create domain email as text check (value like '%@%');
create table category (id int primary key, name text not null, parent_id int);
create table product (
    id int primary key, title text not null, price numeric(10, 2), category_id int not null,
    sku varchar(20) unique, tags text[] not null default '{}', attributes jsonb,
    price_with_tax numeric generated always as (price * 1.2) stored);
create table review (
    id int primary key, product_id int not null, customer_id int not null, rating int,
    body text, created timestamptz not null default now());
create table customer (
    id bigint primary key, email email not null, name text, country char(2),
    vip boolean not null default false);
create table orders (
    id bigint primary key, customer_id bigint not null, state order_state not null,
    placed timestamptz, coupon_code text);
create table order_line (
    order_id bigint not null, line int not null, product_id int not null,
    quantity int not null, price numeric(10, 2) not null, primary key (order_id, line));
create table coupon (id int primary key, code text not null unique, percent int);
create table tag (id int primary key, name citext not null unique);
create table product_tag (
    product_id int not null, tag_id int not null, primary key (product_id, tag_id));
create table author (id int primary key, name text not null, born date);
create table post (
    id int primary key, author_id int, slug text not null unique, title text,
    body text, published timestamp, likes int not null default 0);
create table comment (
    id int primary key, post_id int not null, parent_id int, author_id int,
    body text, hidden boolean not null default false);
create table post_author (
    post_id int not null, author_id int not null, rank int not null,
    primary key (post_id, author_id));
create table company (id uuid primary key, name text not null, owner_id int);
create table person (
    id uuid primary key, company_id uuid, manager_id uuid, name text not null,
    mail citext unique);
create table deal (
    id int primary key, company_id uuid not null, person_id uuid, stage text not null,
    amount numeric, closed date);
create table activity (
    id bigint primary key, deal_id int, person_id uuid, kind text not null, at timestamptz);
create table ticket (
    tenant int not null, id int not null, title text, assignee int, project int not null,
    state text not null, primary key (tenant, id));
create table project (
    tenant int not null, id int not null, name text not null, primary key (tenant, id));
create table member (
    tenant int not null, id int not null, name text not null, primary key (tenant, id));
create table ticket_note (
    tenant int not null, id int not null, ticket int not null, note text,
    primary key (tenant, id));
create table place (id int primary key, name text, region_id int, lat float8, lon float8);
create table region (id int primary key, name text not null, parent_id int);
create table visit (id bigint primary key, place_id int not null, stars float8, day date);
create table event (
    id bigint not null, at timestamptz not null, device int not null, level text not null,
    payload jsonb, primary key (id, at)) partition by range (at);
create table event_2023 partition of event
    for values from ('2023-01-01') to ('2024-01-01');
create table event_2024 partition of event
    for values from ('2024-01-01') to ('2025-01-01');
create table device (id int primary key, name text not null, site int);
create table reading (id bigint primary key, device int not null, value numeric, at timestamptz);
create table log_line (at timestamptz, line text);
create unlogged table session_store (id int primary key, content text);
create table vehicle (id int primary key, wheels int);
create table lorry (load int) inherits (vehicle);
create view product_rating as
    select product_id, count(*) as reviews, round(avg(rating), 2) as rating
      from review group by product_id;
create view order_total as
    select o.id as order_id, o.customer_id, sum(l.quantity * l.price) as total
      from orders o join order_line l on l.order_id = o.id group by o.id;
create view open_ticket as
    select t.tenant, t.id, t.title, m.name as assignee
      from ticket t left join member m on m.tenant = t.tenant and m.id = t.assignee
     where t.state <> 'done';
create materialized view product_stats as select count(*) as n from product;
create function secret_price(int) returns numeric language sql stable
    as 'select price from product where id = $1';
create function plus_tax(numeric) returns numeric language sql immutable
    as 'select $1 * 1.2';
