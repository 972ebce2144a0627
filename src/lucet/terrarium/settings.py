"""What operators set, checked: values of TOML or JSON become frozen dataclasses, and errors name the key."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from lucet.terrarium.catalogue import FilterUse, Route
from lucet.terrarium.limits import Limits
from lucet.terrarium.normal import BadTarget, normal_host, normal_path
from lucet.terrarium.outgoing_rules import BadPattern, Rules

T = TypeVar("T")


class BadSetting(ValueError):
    """A key is unknown or its value is not allowed. field: the dotted key, "limits.cpu_time"; "" for the whole."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.field = where
        self.message = message


TENANT_WIDE: Final = frozenset({"concurrency", "queue", "log_rate", "kv_bytes"})
"""Fields of Limits that all of a tenant's applications share."""

_MAY_BE_ZERO: Final = frozenset(
    {"queue", "request_body", "response_body", "streamed_body", "outgoing_requests", "log_bytes", "log_rate"}
    | {"kv_bytes", "kv_value", "port"}
)
_SIZE: Final = re.compile(r"(\d{1,15})\s*(?:([KMGT])i?B?|B)", re.ASCII)
_UNITS: Final = {None: 0, "K": 10, "M": 20, "G": 30, "T": 40}
_TIME: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|min|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MOST: Final = 1 << 53


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantSettings:
    limits: Limits | None = None
    """None: the server's defaults."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppSettings:
    """Of an application, whatever its version."""

    limits: Mapping[str, int | float] = field(default_factory=dict)
    """Fields of Limits that differ from the tenant's."""
    backends: Mapping[str, str] = field(default_factory=dict)
    """Names of places to send requests to, and their base URLs."""
    allowed_outbound_hosts: tuple[str, ...] = ()
    """Patterns "scheme://host:port" of places that requests may go to."""
    filters: tuple[FilterUse, ...] = ()
    """Guests that see requests before the application does, outermost first."""
    health: bool = False
    """Whether the platform answers GET /__health in place of the guest."""
    development: bool = False
    """Whether responses tell what went wrong in a guest."""


def name_of(value: object, where: str) -> str:
    """A tenant's or an application's name, which may be a label of a host's name."""
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value, re.ASCII) is None:
        raise BadSetting(where, f"must be 1 to 63 lower-case letters, digits and inner hyphens, not {_shown(value)}")
    return value


def key_of(value: object, where: str) -> str:
    """The name of a store, or of a key in a configuration or secret store; a store's may be empty."""
    if not isinstance(value, str) or len(value) > 255 or not value.isprintable():
        raise BadSetting(where, f"must be at most 255 printable characters, not {_shown(value)}")
    return value


def route_of(value: object, where: str) -> Route:
    """From "host/path", "host", "*.example.com", "*" or a table {host, path}."""
    if isinstance(value, str):
        host, slash, rest = value.partition("/")
        value = {"host": host, "path": slash + rest or "/"}
    route = read(Route, value, where)
    star = route.host.startswith("*.")
    name = route.host[2:] if star else route.host
    try:
        # Of several ways to write a route there is one here, so that no two applications have the same.
        host = "*" if name in ("*", "") and not star else normal_host(name)
        if not host or ":" in name.partition("]")[2] or (":" in name and name[:1] != "["):
            raise BadTarget("a name without a port is expected")
    except BadTarget as error:
        raise BadSetting(
            _join(where, "host"), f'must be a host\'s name, "*.name" or "*", not {_shown(name)}: {error}'
        ) from None
    try:
        path, decoded = normal_path(route.path)
        if path != decoded or "..." in path.split("/") or len(path) > 1024:
            raise BadTarget("escapes and dots are not for routes")
    except BadTarget as error:
        raise BadSetting(_join(where, "path"), f"must be /, or begin with it: {_shown(route.path)}: {error}") from None
    return Route(host=f"*.{host}" if star else host, path=path.rstrip("/") or "/")


def sticky_of(value: object, where: str) -> str:
    if (
        not isinstance(value, str)
        or re.fullmatch(r"|client|(cookie|header):[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", value) is None
    ):
        raise BadSetting(where, f'must be "cookie:NAME", "header:NAME", "client" or "", not {_shown(value)}')
    return value


def limits_of(value: object, where: str, *, tenant: bool) -> dict[str, int | float]:
    """Some fields of Limits. tenant: of a tenant; else those that a tenant's applications share are refused."""
    table = _table(value, where)
    for name in table:
        if name in TENANT_WIDE and not tenant:
            raise BadSetting(_join(where, name), "is for all of a tenant's applications: set it at the tenant")
    whole = read(Limits, table, where)
    return {name: getattr(whole, name) for name in table}


def app_settings_of(value: object, where: str = "") -> AppSettings:
    settings = read(AppSettings, value, where)
    changes = limits_of(settings.limits, _join(where, "limits"), tenant=False)
    for name, url in settings.backends.items():
        key_of(name, _join(where, "backends"))
        if re.fullmatch(r"https?://[!-~]+", url) is None:
            raise BadSetting(_join(where, f"backends.{name}"), f"must be an http or https URL, not {_shown(url)}")
    for pattern in settings.allowed_outbound_hosts:
        try:
            Rules([pattern])
        except BadPattern as error:
            raise BadSetting(_join(where, "allowed_outbound_hosts"), str(error)) from None
    for number, use in enumerate(settings.filters):
        name_of(use.application, _join(where, f"filters[{number}].application"))
    return replace(settings, limits=changes)


def changed(settings: T, value: object, reader: typing.Callable[[object], T]) -> T:
    """The settings with some fields replaced: what PATCH does."""
    return reader({**to_json(settings), **_table(value, "")})


def to_json(settings: Any) -> dict[str, Any]:
    """What reading gives the same settings again."""
    return {name: _plain(value) for name, value in asdict(settings).items() if value is not None}


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case Path():
            return str(value)
        case _:
            return value


def read(cls: type[T], value: object, where: str = "") -> T:
    """A dataclass from a table. BadSetting: a key that it has not, one that is missing, a value of another type."""
    table = _table(value, where)
    assert is_dataclass(cls)
    known = {one.name: one for one in fields(cls)}
    for key in table:
        if key not in known:
            raise BadSetting(_join(where, key), f"unknown; there are {', '.join(known)}")
    hints = typing.get_type_hints(cls)
    given = {key: convert(one, hints[key], _join(where, key)) for key, one in table.items()}
    for name, one in known.items():
        if name not in given and one.default is MISSING and one.default_factory is MISSING:
            raise BadSetting(_join(where, name), "is missing")
    found: T = cls(**given)
    return found


def convert(value: object, kind: Any, where: str) -> Any:
    """A value of TOML or JSON as a field of this type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        choices = [one for one in arguments if one is not type(None)]
        if set(choices) == {int, float}:
            return _number(value, where)
        return convert(value, choices[0], where)
    if origin is typing.Literal:
        if value not in arguments:
            raise BadSetting(where, f"must be one of {', '.join(map(repr, arguments))}, not {_shown(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise BadSetting(where, f"must be a list, not {_shown(value)}")
        return tuple(convert(one, arguments[0], f"{where}[{number}]") for number, one in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return {key: convert(one, arguments[1], _join(where, key)) for key, one in _table(value, where).items()}
    if kind is Route:
        return route_of(value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return read(kind, value, where)
    return _scalar(value, kind, where)


def _scalar(value: object, kind: Any, where: str) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int:
        return _whole(value, where)
    if kind is float:
        return _seconds(value, where)
    if kind in (str, bytes, Path) and isinstance(value, str):
        if "\0" in value:
            raise BadSetting(where, "has a zero byte")
        return value.encode("utf-8", "surrogateescape") if kind is bytes else kind(value)
    names = {bool: "true or false", str: "a string", bytes: "a string", Path: "a path"}
    raise BadSetting(where, f"must be {names.get(kind, kind)}, not {_shown(value)}")


def _whole(value: object, where: str) -> int:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        value = int(match[1]) << _UNITS[match[2]]
    least = 0 if _last(where) in _MAY_BE_ZERO else 1
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise BadSetting(where, f"must be a whole number from {least}, or a size like 8 MiB, not {_shown(value)}")
    return value


def _seconds(value: object, where: str) -> float:
    if isinstance(value, str) and (match := _TIME.fullmatch(value.strip())):
        value = float(match[1]) * _SECONDS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST:
        raise BadSetting(where, f"must be seconds above 0, or a time like 50 ms, not {_shown(value)}")
    return float(value)


def _number(value: object, where: str) -> int | float | str:
    """Which of both it is, and whether it fits, the field decides later."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return value
    raise BadSetting(where, f"must be a number, not {_shown(value)}")


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadSetting(where, f"must be a table, not {_shown(value)}")
    return dict(value)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _last(where: str) -> str:
    return where.rpartition(".")[2]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
