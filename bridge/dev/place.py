"""Where servers live on this machine: a cache, a user, directories and ports.

The one thing to know: Postgres and Elasticsearch refuse to run as root. Where we are
root they run as another user, and then everything that they touch must lie where that
user may go, which a clone or a virtual environment under /root is not. Hence the cache:
binaries are copied or unpacked there once, under a lock, and renamed into place whole.

    <root>/packages/NAME-VERSION   what was installed once, never changed afterwards
    <root>/run/PID-RANDOM          the data of one process' servers, removed at its end
    <root>/dev/NAME                the data of `pgbridge dev up`
    <root>/ports/N                 locked while N belongs to a server
"""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import Halt

# Below the range from which the kernel takes ports for outgoing connections (32768 and
# up on Linux), so that nobody is given ours while a server is being restarted.
PORTS = range(20_000, 30_000)
USER_WHEN_ROOT = "nobody"


@dataclass(frozen=True, slots=True)
class User:
    """Whom servers run as; `None` in its place means: as ourselves."""

    uid: int
    gid: int
    name: str


@dataclass(slots=True)
class Port:
    """A TCP port on loopback that no other server of ours is given while it is held."""

    number: int
    _lock: int

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@dataclass(slots=True)
class Place:
    """The cache directory, and the user who runs what lies in it. Made by `open_place`.

    Directories given out by `directory` are removed by `close`, and at the latest when
    another process opens the place after this one has died.
    """

    root: Path
    user: User | None
    _run: Path | None = None
    _run_lock: int = -1
    _names: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    def package(self, name: str, install: Callable[[Path], None]) -> Path:
        """The directory of package `name`, filled by `install` the first time.

        Safe against other processes and against being killed half-way: `install` is
        given an empty directory, which gets its name only when it is complete.
        """
        packages = self.root / "packages"
        target = packages / name
        if target.is_dir():
            return target
        with self._locked():
            if target.is_dir():
                return target
            packages.mkdir(mode=0o755, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=packages))
            try:
                install(fresh)
                fresh.chmod(0o755)
                fresh.rename(target)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        return target

    def directory(self, name: str) -> Path:
        """A new empty directory that belongs to the servers' user."""
        if self._run is None:
            self._run = self._new_run()
        return self.owned(self._run / f"{name}-{next(self._names)}")

    def owned(self, path: Path) -> Path:
        """Make directory `path`, for the servers' user alone, where it is not there."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if self.user:
            os.chown(path, self.user.uid, self.user.gid)
        return path

    def give(self, path: Path) -> None:
        """Hand `path` and everything below it to the servers' user."""
        if self.user:
            for below in (path, *path.rglob("*")):
                os.chown(below, self.user.uid, self.user.gid, follow_symlinks=False)

    def port(self, wanted: int | None = None) -> Port:
        """A free port, `wanted` if that one is free. Held until released."""
        ports = self.root / "ports"
        ports.mkdir(mode=0o755, exist_ok=True)
        tries = [wanted] if wanted else []
        for number in [*tries, *random.sample(PORTS, 200)]:
            lock = os.open(ports / str(number), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            if _is_free(number):
                return Port(number, lock)
            os.close(lock)
        raise Halt("no free port on 127.0.0.1", hint="stop what listens on 20000-29999")

    def run(self, *argv: str | Path, cwd: Path | None = None) -> str:
        """Run a program to its end as the servers' user; what it printed.

        Raises `Halt` with its last line when it fails.
        """
        user = self.user
        done = subprocess.run(
            [str(word) for word in argv],
            cwd=cwd or self.root,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stdout.strip().rpartition("\n")[2]
            program = Path(argv[0]).name
            raise Halt(f"{program} failed: {last}")
        return done.stdout

    def remove(self, path: Path) -> None:
        """Remove a directory that `directory` gave out, before `close` does."""
        assert self._run and path.is_relative_to(self._run), path
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove what `directory` gave out. The servers must have been closed."""
        if self._run is not None:
            shutil.rmtree(self._run, ignore_errors=True)
            os.close(self._run_lock)
            self._run, self._run_lock = None, -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _new_run(self) -> Path:
        with self._locked():
            runs = self.root / "run"
            runs.mkdir(mode=0o755, exist_ok=True)
            _sweep(runs)
            run = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
            run.chmod(0o755)
            self._run_lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._run_lock, fcntl.LOCK_EX)
        return run


def open_place(root: Path | None = None) -> Place:
    """The place of this user, made where it is not there yet.

    It is `$PGBRIDGE_CACHE`, else /var/tmp/pgbridge-0 for root and ~/.cache/pgbridge
    for others. Raises `Halt` where it belongs to somebody else, or not on Linux.
    """
    if sys.platform != "linux":
        raise Halt(
            "local servers are started on Linux only",
            hint="use containers: docker compose -f docker/compose.yaml up",
        )
    chosen = root or _default_root()
    chosen.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = os.lstat(chosen)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Halt(
            f"{chosen} belongs to somebody else",
            hint="name another directory in PGBRIDGE_CACHE",
        )
    user = _servers_user() if os.getuid() == 0 else None
    if user and not reachable(chosen):
        raise Halt(
            f"user {user.name}, as whom servers run, cannot reach {chosen}",
            hint="name a directory in PGBRIDGE_CACHE that everybody may enter",
        )
    return Place(chosen, user)


def reachable(path: Path) -> bool:
    """Whether any user may enter `path` and every directory above it."""
    real = path.resolve()
    return all(os.stat(above).st_mode & stat.S_IXOTH for above in (real, *real.parents))


def plain_environment() -> dict[str, str]:
    """An environment for servers: nothing of ours that could change what they do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _default_root() -> Path:
    if chosen := os.environ.get("PGBRIDGE_CACHE"):
        return Path(chosen).absolute()
    if os.getuid() == 0:
        return Path("/var/tmp/pgbridge-0")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pgbridge"


def _servers_user() -> User:
    """An unprivileged user that exists: nothing is added to the system for a test."""
    name = os.environ.get("PGBRIDGE_SERVER_USER", USER_WHEN_ROOT)
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Halt(
            f"there is no user {name} to run servers as (they refuse to run as root)",
            hint="name an unprivileged user in PGBRIDGE_SERVER_USER",
        ) from None
    return User(entry.pw_uid, entry.pw_gid, name)


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _sweep(runs: Path) -> None:
    """Remove the directories of processes that died without doing it."""
    for run in runs.iterdir():
        try:
            lock = os.open(run / "lock", os.O_RDWR)
        except OSError:
            shutil.rmtree(run, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(run, ignore_errors=True)
        finally:
            os.close(lock)
