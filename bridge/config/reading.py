"""From a file on disk to a `Config`: read, interpolate, validate, join.

The one thing to know: this is the only module that reads the environment, but for what
libpq has there (`transport.py`), and every mistake it finds is a Refusal that names the
place in the file as it would be written there (`views.product.targets[0].encodign`).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.config import schema
from bridge.config.interpolate import interpolate
from bridge.config.limits import Limits
from bridge.config.mistakes import refusal, unknown
from bridge.config.nearest import nearest
from bridge.config.plugins import load_plugin
from bridge.config.settings import (
    Config,
    DaemonConfig,
    SinkConfig,
    SourceConfig,
    TargetConfig,
    ViewConfig,
)
from bridge.config.transport import verified
from bridge.config.values import Secret
from bridge.errors import Refusal
from bridge.sink.options import UnknownOption

DEFAULT_FILE = "pgbridge.toml"
_FILE_BYTES_MAX = 16 * 2**20
_SECRET_FILE_BYTES_MAX = 64 * 2**10


def config_path(
    given: Path | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """The file to read: as given, else `$PGBRIDGE_CONFIG`, else `pgbridge.toml`."""
    if given is not None:
        return given
    environ = os.environ if environ is None else environ
    return Path(environ.get("PGBRIDGE_CONFIG") or DEFAULT_FILE)


def load(
    path: Path | str | None = None, *, environ: Mapping[str, str] | None = None
) -> Config:
    """The configuration in `path` (default as `config_path`).

    Connects nowhere. Refusal for whatever is wrong with it.
    """
    environ = os.environ if environ is None else environ
    path = config_path(None if path is None else Path(path), environ)
    try:
        table = interpolate(_read_toml(path), environ)
    except RecursionError:
        raise Refusal(
            f"{path} nests hundreds of tables or lists",
            hint="tables of the file are at most three levels deep",
        ) from None
    files = [path]
    _take_files(table, path.parent, files)
    try:
        file = schema.File.model_validate(table)
    except ValidationError as error:
        raise refusal(error, table) from None
    sinks = {name: _sink(name, sink) for name, sink in file.sinks.items()}
    views = {name: _view(name, view, sinks) for name, view in file.views.items()}
    _refuse_doubled_targets(views, sinks)
    daemon = file.daemon
    return Config(
        path=path,
        source=SourceConfig(
            dsn=Secret(verified(file.source.dsn)),
            slot=file.source.slot,
            publication=file.source.publication,
            admin_dsn=(
                Secret(verified(file.source.admin_dsn))
                if file.source.admin_dsn
                else None
            ),
            search_path=file.source.search_path,
            wal_budget_bytes=file.source.wal_budget,
        ),
        daemon=DaemonConfig(
            http=daemon.http,
            ready_lag_s=daemon.ready_lag,
            audit=daemon.audit,
            on_slot_loss=daemon.on_slot_loss,
            memory_bytes=daemon.memory,
            dead_letters_max=daemon.dead_letters_max,
            keep_previous_s=daemon.keep_previous,
            backfill_rate=daemon.backfill_rate,
        ),
        sinks=sinks,
        views=views,
        limits=Limits.for_memory(daemon.memory),
        files=tuple(files),
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise Refusal(f"{path} is larger than 16 MiB", hint="is it that file?")
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise Refusal(
            f"{path} does not exist",
            hint="`pgbridge init` writes one; `-c FILE` names another",
        ) from None
    except OSError as error:
        raise Refusal(
            f"{path} cannot be read: {error.strerror}",
            hint="let the user who runs this read it, or name another with `-c FILE`",
        ) from None
    except UnicodeDecodeError:
        raise Refusal(f"{path} is not UTF-8", hint="save it as UTF-8") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise Refusal(
            f"{path} is not TOML: {error}",
            hint='mend that place: a table is [name], a text is "…"',
        ) from None


def _take_files(table: dict[str, Any], folder: Path, files: list[Path]) -> None:
    """Put the content of each `NAME_file` in the place of `NAME`; another `…_file` of a
    sink is a path, relative to the file as well."""
    places = [("source", table.get("source"))]
    if isinstance(sinks := table.get("sinks"), dict):
        places += [(f"sinks.{name}", sink) for name, sink in sinks.items()]
    for place, part in places:
        if not isinstance(part, dict):
            continue
        for name in sorted(schema.SECRET_NAMES):
            if (given := part.pop(f"{name}_file", None)) is None:
                continue
            if name in part:
                raise Refusal(
                    f"{place}: both {name} and {name}_file are given",
                    hint="keep one of them",
                )
            if not isinstance(given, str) or not given:
                raise Refusal(
                    f"{place}.{name}_file is not a path", hint='write "path/of/a/file"'
                )
            part[name] = _secret_file(f"{place}.{name}_file", folder / given)
            files.append(folder / given)
        for name, given in part.items():
            if name.endswith("_file") and isinstance(given, str) and given:
                part[name] = str(folder / given)


def _secret_file(place: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_SECRET_FILE_BYTES_MAX + 1)
        if len(content) > _SECRET_FILE_BYTES_MAX:
            raise Refusal(
                f"{place}: {path} is larger than 64 KiB", hint="is it that file?"
            )
        return content.decode().strip()
    except OSError as error:
        raise Refusal(
            f"{place}: {path} cannot be read: {error.strerror}",
            hint="let the user who runs this read it; paths are relative to the file",
        ) from None
    except UnicodeDecodeError:
        raise Refusal(f"{place}: {path} is not UTF-8", hint="save it so") from None
    except ValueError:  # a zero byte
        raise Refusal(f"{place} is not a path", hint='write "path/of/a/file"') from None


def _sink(name: str, sink: schema.Sink) -> SinkConfig:
    place = f"sinks.{name}"
    try:
        plugin = load_plugin(sink.type)
    except Refusal as error:
        raise Refusal(f"{place}.type: {error.message}", hint=error.hint) from error
    _validate(plugin.validate, place, sink.options, beside=("type",))
    return SinkConfig(name, sink.type, sink.options)


def _view(name: str, view: schema.View, sinks: Mapping[str, SinkConfig]) -> ViewConfig:
    place = f"views.{name}"
    if (view.query is None) == (view.table is None):
        what = "neither query nor table" if view.query is None else "query and table"
        raise Refusal(
            f"{place} gives {what}",
            hint="give one: a select as `query`, or a table's name as `table`",
        )
    if view.columns is not None and view.table is None:
        raise Refusal(
            f"{place}.columns goes with table, not with query",
            hint="name the columns in the select list of the query",
        )
    return ViewConfig(
        name=name,
        query=view.query,
        table=view.table,
        columns=view.columns,
        key=view.key,
        functions=view.functions,
        targets=tuple(
            _target(name, f"{place}.targets[{index}]", target, sinks)
            for index, target in enumerate(view.targets)
        ),
    )


def _target(
    view: str, place: str, target: schema.Target, sinks: Mapping[str, SinkConfig]
) -> TargetConfig:
    if (sink := sinks.get(target.sink)) is None:
        known = (
            f"the nearest is {nearest(target.sink, sinks)!r}" if sinks else "none are"
        )
        raise Refusal(
            f"{place}.sink: there is no sink {target.sink!r}; {known}",
            hint=f"describe it under [sinks.{target.sink}], or name one of the file",
        )
    plugin = load_plugin(sink.type)
    _validate(plugin.validate_target, place, target.options, beside=("sink", "name"))
    return TargetConfig(view, sink.name, target.name or view, target.options)


def _validate(
    validate: Any, place: str, options: Mapping[str, Any], *, beside: Sequence[str]
) -> None:
    """Have the plug-in look at its options, beside which the bridge has its own."""
    try:
        validate(options)
    except UnknownOption as error:
        raise unknown(
            f"{place}.{error.option}", error.option, [*beside, *error.valid]
        ) from None
    except Refusal as error:
        at = _option_at_fault(validate, options, error.message)
        where = f"{place}.{at}" if at else place
        raise Refusal(f"{where}: {error.message}", hint=error.hint) from error


def _option_at_fault(
    validate: Any, options: Mapping[str, Any], message: str
) -> str | None:
    """The option that the plug-in complains of: its message names it, and without it
    the complaint is gone or another one."""
    for name in options:
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message) is None:
            continue
        try:
            validate({key: value for key, value in options.items() if key != name})
        except Refusal as error:
            if error.message == message:
                continue
        return name
    return None


def _refuse_doubled_targets(
    views: Mapping[str, ViewConfig], sinks: Mapping[str, SinkConfig]
) -> None:
    """Two of one name in a sink, or in two sinks that are the same server."""
    seen: dict[tuple[str, ...], str] = {}
    for view in views.values():
        for index, target in enumerate(view.targets):
            place = f"views.{view.name}.targets[{index}]"
            sink = sinks[target.sink]
            identities: list[tuple[str, ...]] = [(target.sink, target.name)]
            if "url" in sink.options:
                url = str(sink.options["url"]).rstrip("/")
                identities.append((sink.type, url, target.name))
            identities += [
                (*identity[:-1], "key", _names_by(target)) for identity in identities
            ]
            for identity in identities:
                if (first := seen.setdefault(identity, place)) is not place:
                    raise _doubled(place, first, identity)


def _names_by(target: TargetConfig) -> str:
    """What tells the names of a target's values from those of another target."""
    template = target.options.get("key", f"{target.name}:{{}}")
    return re.sub(r"\{[^{}]*\}", "{}", str(template))


def _doubled(place: str, first: str, identity: tuple[str, ...]) -> Refusal:
    name = identity[-1]
    if "key" in identity[1:-1]:
        return Refusal(
            f"{place} and {first} would write the same keys, {name}",
            hint="give one of them another `key`",
        )
    one = f"sink {identity[0]!r}" if len(identity) == 2 else "one and the same server"
    return Refusal(
        f"{place} and {first} are both {name!r} in {one}",
        hint="give one of them another `name`",
    )
