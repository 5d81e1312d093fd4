insert into category values (1, 'books', null), (2, 'novels', 1), (3, 'empty', 1);
insert into product (id, title, price, category_id, sku, tags, attributes) values
    (1, 'Dune', 9.99, 2, 'd1', '{sf,classic}', '{"pages": 600}'),
    (2, 'Emma', 5.00, 2, 'e1', '{classic}', null), (3, 'Atlas', null, 1, null, '{}', null);
insert into review values
    (1, 1, 1, 5, 'good', '2024-01-01'), (2, 1, 2, 3, null, '2024-01-02'),
    (3, 2, 1, 4, E'two\nlines', '2024-01-03'), (4, 9, 9, 1, 'lost', '2024-01-03');
insert into customer values (1, 'a@x', 'Ann', 'de', true), (2, 'b@x', null, null, false);
insert into orders values
    (1, 1, 'paid', '2024-01-01', 'ten'), (2, 1, 'cart', null, null),
    (3, 2, 'sent', '2024-02-01', 'none');
insert into order_line values (1, 1, 1, 2, 9.99), (1, 2, 2, 1, 5.00), (3, 1, 1, 1, 9.99);
insert into coupon values (1, 'ten', 10);
insert into tag values (1, 'SciFi'), (2, 'old');
insert into product_tag values (1, 1), (1, 2), (2, 2);
insert into author values (1, 'Herbert', '1920-10-08'), (2, 'Austen', null);
insert into post values
    (1, 1, 'one', 'One', 'text', '2024-01-01', 3), (2, null, 'two', 'Two', null, null, 0),
    (3, 2, 'three', null, 'x', '2024-03-01', 9);
insert into comment values
    (1, 1, null, 2, 'first', false), (2, 1, 1, null, 'reply', false),
    (3, 3, null, 1, 'hidden', true);
insert into post_author values (1, 1, 1), (1, 2, 2), (3, 2, 1);
insert into company values
    ('00000000-0000-0000-0000-000000000001', 'Acme', 1),
    ('00000000-0000-0000-0000-000000000002', 'Void', null);
insert into person values
    ('10000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001',
     null, 'Boss', 'boss@x'),
    ('10000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001',
     '10000000-0000-0000-0000-000000000001', 'Bee', 'BEE@x');
insert into deal values
    (1, '00000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000002',
     'won', 100.0, '2024-01-01'),
    (2, '00000000-0000-0000-0000-000000000001', null, 'open', 20, null);
insert into activity values
    (1, 1, '10000000-0000-0000-0000-000000000001', 'call', '2024-01-01'),
    (2, 1, null, 'mail', '2024-01-02'), (3, 2, null, 'call', null);
insert into project values (1, 1, 'apollo'), (2, 1, 'gemini');
insert into member values (1, 1, 'Lee'), (2, 1, 'Kim');
insert into ticket values
    (1, 1, 'crash', 1, 1, 'open'), (1, 2, 'slow', null, 1, 'done'), (2, 1, 'ugly', 1, 1, 'open');
insert into ticket_note values (1, 1, 1, 'seen'), (1, 2, 1, null), (2, 1, 1, 'hm');
insert into region values (1, 'north', null), (2, 'fjord', 1);
insert into place values (1, 'pier', 2, 60.1, 5.2), (2, 'hut', null, null, null);
insert into visit values (1, 1, 4.5, '2024-01-01'), (2, 1, 3, '2024-01-02');
insert into device values (1, 'pump', 7), (2, 'fan', null);
insert into event values
    (1, '2023-05-01', 1, 'warn', '{"t": 9}'), (2, '2024-05-01', 1, 'info', null),
    (3, '2024-06-01', 2, 'warn', '{}');
insert into reading values (1, 1, 1.0, '2024-01-01'), (2, 1, 1.00, '2024-01-02'), (3, 2, 2, null);
insert into vehicle values (1, 4);
