"""The shape of `pgbridge.toml`, for pydantic: types, defaults, single-value rules.

The one thing to know: a sink's and a target's remaining keys are not known here; they
are kept (`extra="allow"`) and handed to the plug-in.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from bridge.config.settings import OnSlotLoss
from bridge.config.values import (
    HTTP_DEFAULT,
    AuditRate,
    HttpAddress,
    Secret,
    parse_audit,
    parse_duration,
    parse_http,
    parse_size,
)

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
_IDENTIFIER_BYTES_MAX = 63
_SECRETS = frozenset({"dsn", "admin_dsn", "url", "password", "api_key"})


def _name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} does not match {NAME_PATTERN} such as orders-2")
    return value


def _slot(value: str) -> str:
    if _SLOT.fullmatch(value) is None:
        raise ValueError(f"{value!r} does not match ^[a-z0-9_]{{1,63}}$ such as shop_1")
    return value


def _dsn(value: str) -> Secret:
    if not value.startswith(("postgresql://", "postgres://")) and "=" not in value:
        raise ValueError(
            "is not a connection string such as postgresql://user@host/database"
        )
    if "\0" in value:
        raise ValueError("contains a zero byte")
    return Secret(value)


def _optional_dsn(value: object) -> object:
    return value or None


def _identifier(value: str) -> str:
    if not value or "\0" in value or len(value.encode()) > _IDENTIFIER_BYTES_MAX:
        raise ValueError("is not a name that Postgres could have (1 to 63 bytes)")
    return value


def _function(value: str) -> str:
    if not re.fullmatch(r".+\..+", value):
        raise ValueError("does not name its schema such as shop.price_of")
    return value


def _nonempty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError('has nothing in it such as ["id"]')
    if doubled := [name for name in value if value.count(name) > 1]:
        raise ValueError(f"names {doubled[0]!r} twice")
    return value


Name = Annotated[str, AfterValidator(_name)]
SlotName = Annotated[str, AfterValidator(_slot)]
Dsn = Annotated[str, AfterValidator(_dsn)]
Identifier = Annotated[str, AfterValidator(_identifier)]
Identifiers = Annotated[tuple[Identifier, ...], AfterValidator(_nonempty)]
FunctionName = Annotated[str, AfterValidator(_function)]
Text = Annotated[str, StringConstraints(min_length=1)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


class _Closed(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    @property
    def options(self) -> dict[str, Any]:
        """What is left for the plug-in, its secrets marked as such."""
        return {
            name: hide(name, value) for name, value in (self.model_extra or {}).items()
        }


def hide(name: str, value: Any) -> Any:
    """The value, as `Secret` where an option of that name holds one."""
    if name not in _SECRETS and not name.endswith(("password", "secret", "token")):
        return value
    if isinstance(value, list):
        return [Secret(item) if isinstance(item, str) else item for item in value]
    return Secret(value) if isinstance(value, str) else value


class Source(_Closed):
    """`[source]`."""

    dsn: Dsn
    slot: SlotName = "pgbridge"
    publication: SlotName = "pgbridge"
    admin_dsn: Annotated[Dsn | None, BeforeValidator(_optional_dsn)] = None
    search_path: Identifiers = ("public",)
    wal_budget: Annotated[Size, Field(ge=2**20, le=2**60)] = 4 * 2**30


class Daemon(_Closed):
    """`[daemon]`."""

    http: Annotated[HttpAddress | None, BeforeValidator(parse_http)] = HTTP_DEFAULT
    ready_lag: Annotated[Duration, Field(gt=0)] = 60.0
    audit: Annotated[AuditRate | None, BeforeValidator(parse_audit)] = None
    on_slot_loss: OnSlotLoss = OnSlotLoss.HALT
    memory: Annotated[Size, Field(ge=128 * 2**20, le=2**40)] = 400 * 2**20
    dead_letters_max: Annotated[int, Field(strict=True, ge=0, le=2**31)] = 10_000
    keep_previous: Annotated[
        Duration | None, BeforeValidator(lambda value: value if value != "" else None)
    ] = None
    backfill_rate: Annotated[
        float | None, Field(strict=True, gt=0, allow_inf_nan=False)
    ] = None


class Sink(_Open):
    """`[sinks.NAME]`."""

    type: Text


class Target(_Open):
    """`[[views.NAME.targets]]`."""

    sink: Text
    name: Name | None = None


class View(_Closed):
    """`[views.NAME]`."""

    query: Text | None = None
    table: Text | None = None
    columns: Identifiers | None = None
    key: Identifiers | None = None
    functions: tuple[FunctionName, ...] = ()
    targets: tuple[Target, ...] = ()


class File(_Closed):
    """The whole file."""

    source: Source
    daemon: Daemon = Daemon()
    sinks: dict[Name, Sink] = {}
    views: dict[Name, View] = {}


SECRET_NAMES = _SECRETS
