"""An Elasticsearch node of one's own.

The one thing to know: it is the distribution that Elastic publishes for integration
tests, so x-pack's search features, the analysis plug-ins and even `GET /` are not in
it. Measured on 2 cores: 8.4 s to the first answer as it comes, 5.6 s and less than half
of the memory with the first compiler tier and the serial collector (`fast_start`).
"""

from __future__ import annotations

import http.client
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.dev.packages import elasticsearch_home, find_jdk
from bridge.dev.place import Place, Port, plain_environment
from bridge.dev.process import Order, Process
from bridge.errors import Halt

NEWEST = "9.2.0"
OLDER = "8.19.0"
JDK_OF = {NEWEST: 21, OLDER: 17}
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 60.0
FAST_START = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC -XX:-AlwaysPreTouch"
SETTINGS = {
    "discovery.type": "single-node",
    "network.host": "127.0.0.1",
    "xpack.security.enabled": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "node.store.allow_mmap": "false",
    "action.destructive_requires_name": "false",
}


@dataclass(slots=True)
class ElasticsearchServer:
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
    port: int = field(init=False)
    _jdk: Path = field(init=False)
    _distribution: Path = field(init=False)
    _held: list[Port] = field(init=False)
    _home: Path = field(init=False)
    _process: Process | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.version, self._jdk = _choose(self.place, self.version)
        self._distribution = elasticsearch_home(self.place, self.version)
        if self.directory:
            self._home = self.place.owned(self.directory)
        else:
            self._home = self.place.directory("elasticsearch")
        self._held = [self.place.port(self.wanted_port), self.place.port()]
        self.port = self._held[0].number

    @property
    def url(self) -> str:
        """Its HTTP address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Where the server writes its log."""
        return self._home / "log"

    @property
    def pid(self) -> int:
        """The pid of its launcher, whose child the node is; 0 when not running."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._process is not None and self._process.running

    def start(self) -> ElasticsearchServer:
        """Run it and wait until its cluster answers and is not red."""
        if self.running:
            return self
        config = self._write_config()
        temporary = self.place.owned(self._home / "tmp")
        options = f"-Xms{self.heap} -Xmx{self.heap}"
        if self.fast_start:
            options = f"{options} {FAST_START}"
        self._process = Process(
            self.place,
            Order(
                argv=(self._distribution / "bin" / "elasticsearch",),
                cwd=self._home,
                log=self.log,
                environment={
                    **plain_environment(),
                    "ES_JAVA_HOME": str(self._jdk),
                    "ES_PATH_CONF": str(config),
                    "ES_TMPDIR": str(temporary),
                    "ES_JAVA_OPTS": options,
                    "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
                },
                remove=None if self.directory else self._home,
                detached=self.detached,
            ),
        )
        self._process.until(self._answers, START_DEADLINE_S)
        if self.detached:
            self._release()  # the server itself holds it from here on
        return self

    def stop(self) -> None:
        """Stop it in order: what was acknowledged is on disk."""
        if self._process:
            self._process.signal(signal.SIGTERM)
            self._process.wait(STOP_DEADLINE_S)
            self._process = None

    def kill(self) -> None:
        """SIGKILL to the node and its launcher."""
        if self._process:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """`stop`, then `start`, on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it, remove its data, give its ports back."""
        self.kill()
        if not self.directory:
            self.place.remove(self._home)
        self._release()

    def _release(self) -> None:
        for port in self._held:
            port.release()

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
