"""A server that asks who one is, is small, breaks, and is restored."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shlex
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.dev import ElasticsearchServer, Place
from bridge.sink import (
    Build,
    Column,
    Finding,
    Generation,
    Halt,
    Kind,
    Level,
    Operation,
    Owner,
    Position,
    Shape,
    Target,
    Transient,
    TypeShape,
)
from sinks.elasticsearch import ElasticsearchSink, Plugin
from tests.fixtures.waiting import eventually

OWNER = Owner("7001", "shop", "pgbridge")
EPOCH = 3
TEXT = TypeShape(Kind.SCALAR, "text")
PASSWORD = "hush-hush-4711"
OPERATOR = ("operator", PASSWORD)
ROLES = """
asks:
  cluster: [monitor]
bridge:
  cluster: [monitor]
  indices: [{names: ["t*"], privileges: [create_index, manage, read, write]}]
looks:
  cluster: [monitor]
  indices: [{names: ["t*"], privileges: [create_index, manage, read]}]
"""


def hashed(password: str) -> str:
    """As Elasticsearch's users file wants it."""
    salt = b"0123456789abcdef0123456789abcdef"
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 10_000, 32)
    encoded = [base64.b64encode(part).decode() for part in (salt, made)]
    return "{PBKDF2}10000$" + "$".join(encoded)


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[ElasticsearchServer]:
    """One node with users, small requests and a place for snapshots."""
    repository = place.directory("snapshots")
    made = ElasticsearchServer(
        place,
        settings={
            "xpack.security.enabled": "true",
            "xpack.security.transport.ssl.enabled": "false",
            # whoever gives no password may ask whether it is up
            "xpack.security.authc.anonymous.roles": "asks",
            "http.max_content_length": "1mb",
            "indexing_pressure.memory.limit": "3mb",
            "path.repo": str(repository),
        },
    )
    config = made._write_config()
    (config / "roles.yml").write_text(ROLES)
    users = {"bridge": "bridge", "looks": "looks", OPERATOR[0]: "superuser"}
    (config / "users").write_text(
        "".join(f"{user}:{hashed(PASSWORD)}\n" for user in users)
    )
    (config / "users_roles").write_text(
        "".join(f"{role}:{user}\n" for user, role in users.items())
    )
    place.give(config)
    made.start()
    with httpx.Client(base_url=made.url, auth=OPERATOR, trust_env=False) as client:
        body = {"type": "fs", "settings": {"location": str(repository)}}
        client.put("/_snapshot/kept", json=body).raise_for_status()
    yield made
    made.close()


@pytest.fixture
def es(server: ElasticsearchServer) -> Iterator[httpx.Client]:
    """The operator's way to the server; what the test made is gone afterwards."""
    server.start()
    with httpx.Client(
        base_url=server.url, auth=OPERATOR, timeout=60, trust_env=False
    ) as client:
        yield client
        client.delete("/t*?expand_wildcards=all").raise_for_status()


async def opened(server: ElasticsearchServer, **options: Any) -> ElasticsearchSink:
    sink = await Plugin.open("search", {"url": server.url, **options})
    assert isinstance(sink, ElasticsearchSink)
    return sink


@pytest.fixture
async def sink(
    server: ElasticsearchServer, es: httpx.Client
) -> AsyncIterator[ElasticsearchSink]:
    """As the role that the documentation asks for."""
    made = await opened(server, username="bridge", password=PASSWORD)
    await made.claim(OWNER, EPOCH)
    yield made
    await made.close()


@pytest.fixture
async def one(sink: ElasticsearchSink) -> Generation:
    made = generation()
    await sink.prepare(made, OWNER)
    return made


def generation(number: int = 1) -> Generation:
    columns = (Column("id", TEXT), Column("body", TEXT))
    return Generation(
        Target("product", "search", "tproducts", Shape(columns, ("id",))), number
    )


def put(key: str, lsn: int, body: str = "") -> Operation:
    document = json.dumps({"id": key, "body": body}).encode()
    return Operation(key, (key,), Position(EPOCH, lsn).version, document)


# Who one is.


async def test_the_documented_privileges_are_enough(
    sink: ElasticsearchSink, es: httpx.Client
) -> None:
    first, second = generation(1), generation(2)
    assert await sink.examine(first.target, OWNER) == []
    for each in (first, second):
        await sink.prepare(each, OWNER)
        assert (await sink.write(each, [put("1", 10)])).kept == 1
        await sink.refresh(each)
        await sink.publish(each)
        await sink.record(each, Position(EPOCH, 10))
    assert await sink.published(first.target) == 2
    assert await sink.recorded(first) == Position(EPOCH, 10)
    assert await sink.audit([first, second]) == []
    assert await sink.count(first) == 1
    async for page in sink.scan(second, documents=True):
        assert [stored.key for stored in page] == ["1"]
    assert "1" in await sink.read(second, [("1",)])
    await sink.claim(OWNER, EPOCH + 1)
    assert await sink.highest_epoch(OWNER) == EPOCH + 1
    await sink.drop(first)
    findings = await sink.check()
    assert not [finding for finding in findings if finding.level is Level.ERROR]


async def test_a_wrong_password_stops_the_sink(
    server: ElasticsearchServer, es: httpx.Client
) -> None:
    sink = await opened(server, username="bridge", password="wrong-4711")
    for call in (sink.claim(OWNER, 1), sink.check(), sink.audit([generation()])):
        with pytest.raises(Halt) as halted:
            await call
        assert "401" in halted.value.message
        assert "password" in halted.value.hint
        assert "wrong-4711" not in halted.value.message + halted.value.hint
    await sink.close()


async def test_a_role_that_may_not_write_stops_the_sink(
    server: ElasticsearchServer, one: Generation
) -> None:
    sink = await opened(server, username="looks", password=PASSWORD)
    await sink.claim(OWNER, EPOCH)
    with pytest.raises(Halt) as halted:
        await sink.write(one, [put("1", 10, "marker-4712")])
    assert "marker-4712" not in halted.value.message + halted.value.hint
    assert "write" in halted.value.hint
    assert any("write" in finding.what for finding in await sink.check())
    await sink.close()


# How much it takes.


async def test_what_is_too_large_together_is_sent_apart(
    sink: ElasticsearchSink, one: Generation
) -> None:
    batch = [put(str(key), 10, "x" * 100_000) for key in range(40)]
    batch.insert(7, put("huge", 10, "y" * 1_500_000))  # beyond one request
    batch.insert(9, put("large", 10, "y" * 900_000))  # beyond the server's memory
    report = await sink.write(one, batch)
    assert report.again == []
    assert set(report.rejections) == {7, 9}
    for rejection in report.rejections.values():
        assert "larger" in rejection.reason
        assert "yyy" not in rejection.reason
    assert report.kept == 40
    assert await sink.count(one) == 40
    alone = await sink.write(one, [put("large", 11, "y" * 900_000)])
    assert set(alone.rejections) == {0}


async def test_a_limit_of_shards_is_told_with_its_fix(
    sink: ElasticsearchSink, es: httpx.Client
) -> None:
    limit = {"persistent": {"cluster.max_shards_per_node": 1}}
    es.put("/tother", json={}).raise_for_status()
    es.put("/_cluster/settings", json=limit).raise_for_status()
    try:
        (finding,) = await sink.room([Build(generation().target)])
        assert finding.level is Level.ERROR
        with pytest.raises(Halt, match="shards"):
            await sink.prepare(generation(), OWNER)
        run(finding.fix.partition("or ")[2])
        assert await sink.room([Build(generation().target)]) == []
        await sink.prepare(generation(), OWNER)
    finally:
        limit["persistent"]["cluster.max_shards_per_node"] = None  # type: ignore[assignment]
        es.put("/_cluster/settings", json=limit).raise_for_status()


@pytest.mark.parametrize("where", ["index", "cluster"])
async def test_a_block_is_told_with_its_fix(
    where: str, sink: ElasticsearchSink, one: Generation, es: httpx.Client
) -> None:
    if where == "index":
        es.put("/tproducts--g1/_settings", json={"index.blocks.write": True})
    else:
        blocks = {"persistent": {"cluster.blocks.read_only": True}}
        es.put("/_cluster/settings", json=blocks).raise_for_status()
    try:
        report = await sink.write(one, [put("1", 10)])
        assert report.again == [0]
    except Transient:
        assert where == "cluster"
    errors = await told(sink, one, OWNER)
    assert len(errors) == 1
    run(errors[0].fix)
    assert not await told(sink, one, OWNER)
    assert (await sink.write(one, [put("1", 10)])).kept == 1


async def test_a_block_on_the_index_of_another_bridge_is_no_error(
    sink: ElasticsearchSink, one: Generation, es: httpx.Client
) -> None:
    es.put("/tproducts--g1/_settings", json={"index.blocks.write": True})
    foreign = {"_meta": {"pgbridge": {"owner": "9/other/pgbridge"}}}
    es.put("/tother--g1", json={"mappings": foreign}).raise_for_status()
    es.put("/tother--g1/_settings", json={"index.blocks.write": True})
    try:
        assert len(await told(sink, one, OWNER)) == 1
        assert not [f for f in await sink.check() if f.level is Level.ERROR]
    finally:
        es.delete("/tother--g1").raise_for_status()


async def told(sink: ElasticsearchSink, one: Generation, owner: Owner) -> list[Finding]:
    """The errors that `check` shows of the server and of one target."""
    findings = [*await sink.check(), *await sink.examine(one.target, owner)]
    return [finding for finding in findings if finding.level is Level.ERROR]


def run(command: str) -> None:
    """Run a command as the operator would copy it."""
    words = shlex.split(command)
    assert words[0] == "curl"
    done = subprocess.run(
        [*words, "-sS", "--noproxy", "*", "-u", ":".join(OPERATOR)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"acknowledged":true' in done.stdout, done.stdout


# When it breaks.


async def test_a_server_that_is_killed_keeps_what_it_kept(
    server: ElasticsearchServer, sink: ElasticsearchSink, one: Generation
) -> None:
    await sink.write(one, [put("1", 10)])
    await sink.record(one, Position(EPOCH, 10))
    server.kill()
    with pytest.raises(Transient):
        await sink.write(one, [put("2", 20)])
    with pytest.raises(Transient):
        await sink.audit([one])
    await asyncio.to_thread(server.start)

    async def written() -> bool:
        try:
            return (await sink.write(one, [put("2", 20)])).kept == 1
        except Transient:
            return False

    await eventually(written)
    assert await sink.audit([one]) == []
    assert set(await sink.read(one, [("1",), ("2",)])) == {"1", "2"}
    assert await sink.recorded(one) == Position(EPOCH, 10)


@pytest.mark.parametrize("way", ["deleted", "closed"])
async def test_an_index_restored_from_a_snapshot_is_a_loss(
    way: str, sink: ElasticsearchSink, one: Generation, es: httpx.Client
) -> None:
    await sink.write(one, [put("1", 10)])
    await sink.record(one, Position(EPOCH, 10))
    snapshot = f"/_snapshot/kept/before-{way}"
    es.put(
        f"{snapshot}?wait_for_completion=true", json={"indices": "tproducts--g1"}
    ).raise_for_status()
    await sink.write(one, [put("1", 20), put("2", 20)])
    await sink.record(one, Position(EPOCH, 20))
    assert await sink.audit([one]) == []
    if way == "deleted":
        es.delete("/tproducts--g1").raise_for_status()
    else:
        es.post("/tproducts--g1/_close").raise_for_status()
    restore = {"indices": "tproducts--g1", "include_global_state": False}
    es.post(
        f"{snapshot}/_restore?wait_for_completion=true", json=restore
    ).raise_for_status()
    with pytest.raises(Transient):
        await sink.record(one, Position(EPOCH, 30))
    (loss,) = await sink.audit([one])
    assert loss.keys is None
    assert await sink.recorded(one) == Position(EPOCH, 10)
    assert await sink.exists(one) is (way == "closed")
    await sink.repaired(loss)
    assert await sink.audit([one]) == []
    assert await sink.exists(one)


async def test_a_shard_that_was_started_empty_is_a_loss(
    server: ElasticsearchServer, sink: ElasticsearchSink, one: Generation
) -> None:
    """The disk is lost, and the operator gives up what was on it."""
    await sink.write(one, [put("1", 10)])
    await sink.record(one, Position(EPOCH, 10))
    assert await sink.audit([one]) == []
    server.stop()
    for shard in (server._home / "data" / "indices").glob("*/0/index"):
        shutil.rmtree(shard.parent)
    # it waits until the cluster is not red, which is the operator's to bring about
    starting = asyncio.create_task(asyncio.to_thread(server.start))

    def give_up() -> bool:
        with httpx.Client(base_url=server.url, auth=OPERATOR, trust_env=False) as es:
            try:
                node = es.get("/_cat/nodes?h=name")
            except httpx.TransportError:
                return False
            forced = {"index": one.target.name + "--g1", "shard": 0}
            forced |= {"node": node.text.strip(), "accept_data_loss": True}
            commands = {"commands": [{"allocate_empty_primary": forced}]}
            return es.post("/_cluster/reroute", json=commands).is_success

    await eventually(lambda: asyncio.to_thread(give_up))
    await starting

    async def found() -> bool:
        try:
            return [each.generation for each in await sink.audit([one])] == [one]
        except Transient:
            return False

    await eventually(found)
    assert await sink.count(one) == 0


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
            f" -addext subjectAltName=DNS:localhost -keyout {key} -out {file}"
        ),
        check=True,
        capture_output=True,
    )
    return file, key


@asynccontextmanager
async def encrypted(url: str, files: tuple[Path, Path]) -> AsyncIterator[str]:
    """The server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    host, port = url.removeprefix("http://").split(":")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, forth), pump(back, writer))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    listening.close()


async def test_tls_is_verified_unless_told_otherwise(
    server: ElasticsearchServer, one: Generation, certificate: tuple[Path, Path]
) -> None:
    async with encrypted(server.url, certificate) as url:
        user = {"url": url, "username": "bridge", "password": PASSWORD}
        stranger = await Plugin.open("search", user)
        with pytest.raises(Halt, match="TLS") as halted:
            await stranger.write(one, [put("1", 10)])
        assert "ca_file" in halted.value.hint
        await stranger.close()
        for number, more in enumerate(
            ({"ca_file": str(certificate[0])}, {"verify": False})
        ):
            sink = await Plugin.open("search", {**user, **more})
            assert (await sink.write(one, [put(str(number), 10)])).kept == 1
            await sink.close()
