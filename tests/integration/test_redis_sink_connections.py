"""Ways to a server: TLS that is verified, a Unix socket; being cancelled on them."""

from __future__ import annotations

import asyncio
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge.sink import Halt
from sinks.redis.options import read_options
from sinks.redis.server import Server
from tests.fixtures.private import MakeValkey
from tests.fixtures.redis_sinks import EPOCH, OWNER, OpenRedis, generation, put
from tests.fixtures.waiting import DEADLINE_S

ONE = generation()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost` alone, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    file, key = folder / "certificate.pem", folder / "key.pem"
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
async def encrypted(url: str, files: tuple[Path, Path]) -> AsyncIterator[int]:
    """The port of the server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    parts = urlsplit(url)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65_536):
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(pump(reader, forth), pump(back, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_tls_is_verified_unless_told_otherwise(
    redis_url: str, open_redis: OpenRedis, certificate: tuple[Path, Path]
) -> None:
    number = urlsplit(redis_url).path
    ca_file = str(certificate[0])
    async with encrypted(redis_url, certificate) as port:
        by_name = f"rediss://localhost:{port}{number}"
        by_address = f"rediss://127.0.0.1:{port}{number}"
        unknown = await open_redis(by_name, claim=False)
        with pytest.raises(Halt, match="certificate"):
            await unknown.claim(OWNER, EPOCH)
        other_name = await open_redis(by_address, claim=False, ca_file=ca_file)
        with pytest.raises(Halt, match="certificate"):
            await other_name.claim(OWNER, EPOCH)
        with pytest.raises(Halt, match="certificate"):
            await unknown.write(ONE, [put("k", 1)])

        known = await open_redis(by_name, ca_file=ca_file)
        await known.prepare(ONE, OWNER)
        assert (await known.write(ONE, [put("k", 1)])).kept == 1
        blind = await open_redis(by_address, verify=False)
        assert (await blind.write(ONE, [put("k", 2)])).kept == 1
        for sink in (known, blind):
            await sink.close()


async def test_a_unix_socket(
    make_valkey: MakeValkey, open_redis: OpenRedis, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(make_valkey)
    await asyncio.to_thread(server.stop)
    socket = server._home / "socket"
    server.options = ("--unixsocket", str(socket), "--unixsocketperm", "777")
    await asyncio.to_thread(server.start)
    sink = await open_redis(f"unix://{socket}?db=1")
    await sink.prepare(ONE, OWNER)
    assert (await sink.write(ONE, [put("k", 1)])).kept == 1
    over_tcp = await open_redis(server.url_of(1))
    assert await over_tcp.count(ONE) == 1


async def test_no_cancellation_is_lost(redis_url: str) -> None:
    server = Server(read_options({"type": "redis", "url": redis_url}))

    async def ask() -> None:
        while True:
            await server.client.get("nothing")

    await server.client.ping()
    for passes in range(1, 201):
        asking = asyncio.create_task(ask())
        for _ in range(1 + passes % 50):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking}, timeout=DEADLINE_S)
        assert asking.cancelled(), f"it goes on, cancelled at pass {passes}"
    await server.close()
