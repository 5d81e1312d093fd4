"""The daemon's pages: what they answer, and what happens to a taken address."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest

from bridge.config import HttpAddress
from bridge.errors import Halt
from bridge.observe.http import Readiness, serving
from bridge.observe.metrics import Metrics

STATUS = {
    "source": {"state": "streaming", "retained_bytes": 7, "lag_bytes": 3},
    "sinks": [{"name": "search", "type": "null", "state": "parked", "owed_keys": 5}],
    "targets": [
        {
            "view": "product",
            "sink": "search",
            "name": "products",
            "state": "live",
            "generation": 2,
            "documents": 11,
            "lag_bytes": 13,
            "lag_seconds": 0.5,
            "dead_letters": 1,
            "progress": None,
        }
    ],
}


async def test_pages_answer_what_the_callables_say() -> None:
    answers = iter([Readiness(True), Readiness(False, "search/products is behind")])
    async with serving(
        HttpAddress("127.0.0.1", 0),
        status=lambda: STATUS,
        ready=lambda: next(answers),
        metrics=Metrics(),
    ) as address:
        while (bound := address()) is None:
            await asyncio.sleep(0)
        async with httpx.AsyncClient(base_url=f"http://{bound}") as client:
            assert (await client.get("/live")).status_code == 200
            assert (await client.get("/ready")).status_code == 200
            late = await client.get("/ready")
            assert late.status_code == 503
            assert "search/products is behind" in late.text
            assert json.loads((await client.get("/status")).content) == STATUS
            metrics = (await client.get("/metrics")).text
            assert (await client.post("/status")).status_code == 405
    labels = '{name="products",sink="search",view="product"}'
    assert f"pgbridge_lag_bytes{labels} 13.0" in metrics
    assert 'pgbridge_owed_keys{sink="search"} 5.0' in metrics
    assert 'pgbridge_sink_state{sink="search",state="parked"} 1.0' in metrics
    async with httpx.AsyncClient(base_url=f"http://{bound}") as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/live")


async def test_taken_address_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.observe.http._RETRY_S", 0.01)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with serving(
            HttpAddress("127.0.0.1", port),
            status=dict,
            ready=lambda: Readiness(True),
            metrics=Metrics(),
        ) as address:
            assert address() is None
            other.close()
            async with asyncio.timeout(20):
                while address() is None:
                    await asyncio.sleep(0)
            assert httpx.URL(f"http://{address()}").port == port


async def test_address_of_no_interface_halts_with_a_sentence() -> None:
    with pytest.raises(Halt, match=r"cannot listen on 192\.0\.2\.1:80"):
        async with serving(
            HttpAddress("192.0.2.1", 80),
            status=dict,
            ready=lambda: Readiness(True),
            metrics=Metrics(),
        ):
            pass


async def test_no_address_listens_nowhere() -> None:
    async with serving(
        None, status=dict, ready=lambda: Readiness(True), metrics=Metrics()
    ) as address:
        assert address() is None


def test_metrics_of_a_removed_target_go_away() -> None:
    metrics = Metrics()
    metrics.take_status(STATUS)
    assert b'sink="search"' in metrics.text()
    metrics.take_status({"source": {}, "sinks": [], "targets": []})
    assert b'sink="search"' not in metrics.text()
