"""One key has one text wherever it is found: in the log, by key queries, in a build."""

from __future__ import annotations

import secrets

from psycopg import AsyncConnection, AsyncRawCursor

from bridge.decode.transactions import TransactionAssembler
from bridge.derive.definition import ViewDefinition, read_definitions
from bridge.derive.plan import plan_view
from bridge.derive.shapes import digest_types
from bridge.live_digest import LiveDigest

KEYS = {
    "boolean": "true",
    "integer": "7",
    "text": "'a b'",
    "varchar(5)": "'v '",
    "char(3)": "'x'",
    '"char"': "'c'",
    "name": "'n'",
    "uuid": "'00000000-0000-0000-0000-000000000001'",
    "date": "'2020-01-02'",
    "time": "'01:02:03.5'",
    "timestamp": "'2020-01-02 03:04:05.678'",
    "timestamptz": "'2020-01-02 03:04:05+01'",
    "bytea": r"'\x00ff'",
    "inet": "'10.0.0.1'",
    "cidr": "'10.0.0.0/8'",
    "macaddr": "'08:00:2b:01:02:03'",
    "bit(3)": "b'101'",
    "varbit": "b'10'",
    "pg_lsn": "'16/B374D848'",
    "money": "'1.50'",
    "mood": "'sad'",
    "yes": "true",
}
SCHEMA = "create type mood as enum ('sad'); create domain yes as boolean"


async def test_a_key_of_every_type_is_the_same_text(any_database: str) -> None:
    slot = f"t_{secrets.token_hex(6)}"
    tables = {f"k{i}": each for i, each in enumerate(KEYS.items())}
    views = [
        *(ViewDefinition(name, table=name) for name in tables),
        *(
            ViewDefinition(
                f"g{name}", query=f"select k, count(*) from {name} group by k"
            )
            for name in tables
        ),
    ]
    async with await AsyncConnection.connect(
        any_database,
        autocommit=True,
        cursor_factory=AsyncRawCursor,
        options="-c timezone=UTC -c datestyle=ISO -c lc_monetary=C -c jit=off",
    ) as own:
        await own.execute(SCHEMA.encode())
        for name, (kind, _) in tables.items():
            await own.execute(f"create table {name} (k {kind} primary key)".encode())
        await own.execute(b"create publication everything for all tables")
        catalog = await read_definitions(own, views, ["public"])
        plans = [plan_view(view, catalog) for view in views]
        make = "select pg_create_logical_replication_slot($1, 'pgoutput')"
        await own.execute(make.encode(), (slot,))
        try:
            for name, (_, value) in tables.items():
                await own.execute(f"insert into {name} values ({value})".encode())
            cursor = await own.execute(
                b"select data from pg_logical_slot_get_binary_changes($1, null, null,"
                b" 'proto_version', '1', 'publication_names', 'everything')",
                (slot,),
            )
            messages = [row[0] for row in await cursor.fetchall()]
        finally:
            await own.execute(b"select pg_drop_replication_slot($1)", (slot,))
        digest = LiveDigest(plans, digest_types(catalog.types), epoch=1)
        [batch] = digest(TransactionAssembler().feed(messages))
        for plan in plans:
            told = {op.parts for op in batch.puts.get(plan.name, {}).values()}
            told |= set(batch.reread.get(plan.name, ()))
            found = await (
                await own.execute(plan.scan_sql.encode(), (None, None))
            ).fetchall()
            [*parts, _] = found[0]
            assert told == {tuple(parts)}, tables[plan.name.removeprefix("g")]
