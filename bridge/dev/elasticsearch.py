"""An Elasticsearch node of one's own.

The one thing to know: it is the distribution that Elastic publishes for integration
tests, so x-pack's search features, the analysis plug-ins and even `GET /` are not in
it. Measured on 2 cores: 8.4 s to the first answer as it comes, 5.6 s and less than half
of the memory with the first compiler tier and the serial collector (`fast_start`).
"""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bridge.dev.local import LocalServer
from bridge.dev.packages import elasticsearch_home, find_jdk
from bridge.dev.place import Place, Port
from bridge.dev.process import Process
from bridge.errors import Halt

NEWEST = "9.2.0"
OLDER = "8.19.0"
JDK_OF = {NEWEST: 21, OLDER: 17}
FAST_START = (
    "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC -XX:-AlwaysPreTouch "
    "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)
"""For a node that does not live long: that its classes are not verified saves an eighth
of what its start costs."""
SETTINGS = {
    "discovery.type": "single-node",
    "network.host": "127.0.0.1",
    "xpack.security.enabled": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "node.store.allow_mmap": "false",
    "action.destructive_requires_name": "false",
}


@dataclass(slots=True)
class ElasticsearchServer(LocalServer):
    """A cluster of one node on ports of its own, plain HTTP, no password.

    `version` is 9.2.0, or 8.19.0 where there is no JDK 21; `heap` as for -Xmx;
    `settings` go into elasticsearch.yml; `fast_start=False` for measurements.
    `directory` is where it keeps files (default: a new one, removed by `close`). All
    calls block: in a coroutine use `asyncio.to_thread`.
    """

    place: Place
    version: str = ""
    heap: str = "512m"
    settings: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    wanted_port: int | None = None
    detached: bool = False
    fast_start: bool = True
    START_DEADLINE_S: ClassVar[float] = 180.0
    port: int = field(init=False)
    _jdk: Path = field(init=False)
    _distribution: Path = field(init=False)
    _held: list[Port] = field(init=False)
    _home: Path = field(init=False)
    _process: Process | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.version, self._jdk = _choose(self.place, self.version)
        self._distribution = elasticsearch_home(self.place, self.version)
        self._home = self._settle("elasticsearch")
        self._held = [self.place.port(self.wanted_port), self.place.port()]
        self.port = self._held[0].number

    @property
    def url(self) -> str:
        """Its HTTP address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> ElasticsearchServer:
        """Run it and wait until its cluster answers and is not red."""
        if self.running:
            return self
        config = self._write_config()
        temporary = self.place.owned(self._home / "tmp")
        options = f"-Xms{self.heap} -Xmx{self.heap}"
        # The launcher leaves a directory wherever temporary files go.
        launcher = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        if self.fast_start:
            options = f"{options} {FAST_START}"
        self._run(
            self._distribution / "bin" / "elasticsearch",
            environment={
                "ES_JAVA_HOME": str(self._jdk),
                "ES_PATH_CONF": str(config),
                "ES_TMPDIR": str(temporary),
                "ES_JAVA_OPTS": options,
                "CLI_JAVA_OPTS": f"{launcher} -Djava.io.tmpdir={temporary}",
            },
        )
        return self

    def stop(self) -> None:
        """Stop it in order: what was acknowledged is on disk."""
        self._end()

    def restart(self) -> None:
        """`stop`, then `start`, on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it, remove its data, give its ports back."""
        self.kill()
        self._remove()

    def _write_config(self) -> Path:
        config = self._home / "config"
        if not config.is_dir():
            shutil.copytree(self._distribution / "config", config)
            # The collector's log would go below the distribution, which is not ours.
            options = config / "jvm.options"
            lines = options.read_text().splitlines(keepends=True)
            options.write_text("".join(x for x in lines if "gc.log" not in x))
        wanted = {
            **SETTINGS,
            "http.port": str(self.port),
            "transport.port": str(self._held[1].number),
            "path.data": str(self._home / "data"),
            "path.logs": str(self._home / "logs"),
            **self.settings,
        }
        text = "".join(f"{name}: {value}\n" for name, value in wanted.items())
        (config / "elasticsearch.yml").write_text(text)
        self.place.give(config)
        return config

    def _answers(self) -> bool:
        return answers(self.port)


def answers(port: int) -> bool:
    """Whether the cluster on loopback `port` answers and is not red."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _choose(place: Place, version: str) -> tuple[str, Path]:
    """The version to run and the JDK for it."""
    for candidate in [version] if version else [NEWEST, OLDER]:
        if jdk := find_jdk(place, JDK_OF.get(candidate, JDK_OF[NEWEST])):
            return candidate, jdk
    needed = JDK_OF.get(version, JDK_OF[OLDER])
    raise Halt(
        f"Elasticsearch needs a JDK {needed} or newer, and none was found",
        hint="apt-get install openjdk-17-jdk-headless, or set ES_JAVA_HOME",
    )
