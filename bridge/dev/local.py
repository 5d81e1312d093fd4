"""What every server of one's own has: a process, a log, a home, ports; how it ends.

The one thing to know: the process belongs to whoever started it, and ends with it,
unless the server was made `detached`; then it holds its ports itself.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bridge.dev.place import Place, Port, plain_environment
from bridge.dev.process import Order, Process


class LocalServer:
    """The part that Postgres, Elasticsearch and Valkey share.

    A subclass has `place`, `directory` and `detached` as fields, sets `_home` and
    `_held`, says when it answers, and how it is started. All calls block.
    """

    START_DEADLINE_S: ClassVar[float] = 60.0
    STOP_DEADLINE_S: ClassVar[float] = 60.0

    place: Place
    directory: Path | None
    detached: bool
    _home: Path
    _held: list[Port]
    _process: Process | None

    @property
    def log(self) -> Path:
        """Where the server writes its log."""
        return self._home / "log"

    @property
    def pid(self) -> int:
        """The pid of what was started (Elasticsearch: its launcher); 0: not running."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._process is not None and self._process.running

    def kill(self) -> None:
        """SIGKILL to it and all its children: what was not yet on disk is lost."""
        if self._process:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        if self._process:
            self._process.signal(signal.SIGCONT)

    def _settle(self, name: str) -> Path:
        """The directory asked for, or a new one; the server's user can write there."""
        if self.directory:
            return self.place.owned(self.directory)
        return self.place.directory(name)

    def _run(
        self,
        *argv: str | Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Run it and wait until it answers."""
        self._process = Process(
            self.place,
            Order(
                argv=argv,
                cwd=self._home,
                log=self.log,
                environment={**plain_environment(), **(environment or {})},
                stop_signal=stop_signal,
                remove=None if self.directory else self._home,
                detached=self.detached,
            ),
        )
        self._process.until(self._answers, self.START_DEADLINE_S)
        if self.detached:
            self._release()  # the server itself holds them from here on

    def _answers(self) -> bool:
        raise NotImplementedError

    def _end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Let it stop in order."""
        if self._process:
            self._process.signal(by)
            self._process.wait(self.STOP_DEADLINE_S)
            self._process = None

    def _remove(self) -> None:
        """Remove its files, unless the directory was given; give its ports back."""
        if not self.directory:
            self.place.remove(self._home)
        self._release()

    def _release(self) -> None:
        for port in self._held:
            port.release()
