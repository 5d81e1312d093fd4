"""The JDK is found beside the default one, and packages appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.dev import elasticsearch, packages
from bridge.dev.place import Place
from bridge.errors import Halt

TOOL_OPTIONS = 'echo "Picked up JAVA_TOOL_OPTIONS: -Dversion=\\"99\\"" >&2'


def jdk(above: Path, version: str, before: str = ":") -> Path:
    """A JDK that says it is of that version, after what `before` prints."""
    java = above / f"jdk-{version}" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{before}\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java.parent.parent


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, user=None)


def given(monkeypatch: pytest.MonkeyPatch, *homes: Path) -> None:
    monkeypatch.setattr(packages, "_jdk_homes", lambda: list(homes))


def test_the_oldest_that_suits_is_taken(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [jdk(tmp_path, v) for v in ("17.0.15", "25.0.3", "21.0.1", "1.8.0_202")]
    given(monkeypatch, tmp_path / "nothing-here", *homes)
    assert packages.find_jdk(place, 21) == homes[2]
    assert packages.find_jdk(place, 17) == homes[0]
    assert packages.find_jdk(place, 26) is None


def test_a_line_before_the_version_is_not_taken_for_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = jdk(tmp_path, "21.0.1", before=TOOL_OPTIONS)
    given(monkeypatch, home)
    assert packages.find_jdk(place, 21) == home
    assert packages.find_jdk(place, 22) is None


def test_a_java_that_fails_is_passed_by(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, jdk(tmp_path, "21.0.1", before="exit 1"))
    assert packages.find_jdk(place, 21) is None


def test_without_a_jdk_21_elasticsearch_is_the_older_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = jdk(tmp_path, "17.0.15")
    given(monkeypatch, home)
    assert elasticsearch._choose(place, "") == ("8.19.0", home)
    with pytest.raises(Halt, match="needs a JDK 21"):
        elasticsearch._choose(place, "9.2.0")


def test_a_package_is_installed_once(place: Place) -> None:
    installs: list[Path] = []

    def install(target: Path) -> None:
        installs.append(target)
        (target / "file").touch()

    first = place.package("p-1", install)
    assert place.package("p-1", install) == first
    assert len(installs) == 1
    assert (first / "file").exists()


def test_a_package_whose_installation_fails_is_not_there(place: Place) -> None:
    def fail(target: Path) -> None:
        (target / "half").touch()
        raise Halt("no network")

    with pytest.raises(Halt, match="no network"):
        place.package("p-1", fail)
    assert list((place.root / "packages").iterdir()) == []
    assert place.package("p-1", lambda target: None).is_dir()


def test_without_maven_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Halt, match="mvn") as caught:
        packages.maven_artifact("group:name:1:zip", tmp_path)
    assert "apt-get install" in caught.value.hint


def test_an_unknown_postgres_is_an_error(place: Place) -> None:
    with pytest.raises(Halt, match="Postgres 99"):
        packages.postgres_binaries(place, 99)
