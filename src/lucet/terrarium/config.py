"""The server's configuration: one TOML file, read into frozen dataclasses. docs/terrarium-config.md has every key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from lucet.errors import LucetError
from lucet.terrarium.catalogue import FilterUse, Route
from lucet.terrarium.limits import Limits
from lucet.terrarium.settings import (
    AppSettings,
    BadSetting,
    app_settings_of,
    key_of,
    limits_of,
    name_of,
    read,
    to_json,
)

_MAX_FILE: Final = 16 << 20


class ConfigError(LucetError):
    """The message begins with the file, and names a line or a dotted key of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    certificate: Path
    """PEM: the certificate and those that it depends on."""
    key: Path
    """PEM: its private key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Admin:
    """The admin API, on a socket of its own."""

    listen: str | None = None
    """"127.0.0.1:8081", or "unix:" and a path. Without it there is no admin API."""
    token_file: Path | None = None
    """Where the token stands; made with a random one, readable by its owner only. Default: admin.token in `data`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What the whole server may take."""

    instances: int = 1000
    """At once."""
    memory: int = 8 << 30
    """Bytes of the memories of all instances together."""
    stack: int = 1 << 20
    """Bytes of an instance's stack."""
    loaded: int = 4000
    """Versions whose code stays mapped although nobody has asked for them of late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What one build of uploaded code may take, and with what."""

    concurrency: int = 1
    """Builds at once. Each tenant has one at a time, in turns."""
    queue: int = 16
    """Builds of one tenant that wait; more are refused."""
    wall_time: float = 300.0
    """Seconds for a build."""
    cpu_time: float = 240.0
    """Seconds of computing, of each process."""
    memory: int = 2 << 30
    """Bytes, of each process."""
    scratch: int = 512 << 20
    """Bytes of files that a build may write."""
    processes: int = 64
    source: int = 16 << 20
    """Bytes of an upload."""
    module: int = 64 << 20
    """Bytes of a .wasm."""
    log: int = 64 << 10
    """Bytes of output that are kept."""
    optimise: bool = True
    """Whether code that was compiled fast is compiled once more, better, when there is time."""
    assemblyscript: Path | None = None
    """A node_modules with assemblyscript. Default: the one in `data`/toolchains, or what `asc` is part of."""
    require_isolation: bool = False
    """Refuse to build where the kernel does not allow namespaces; else the log says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """The first Terrarium's own API: POST /deploy, GET /status/<id>. Each deployment has a random host name."""

    domain: str
    """Deployments are hosts of it."""
    hosts: tuple[str, ...] = ()
    """Public hosts where the API answers to anybody. It always answers on the admin's socket, with its token."""
    tenant: str = "terrarium"
    """Whose the applications are."""
    ttl: float = 900.0
    """Seconds that a deployment lives."""
    port: int | None = None
    """Of the URLs that clients are told, if it is not the scheme's."""
    scheme: Literal["http", "https"] = "https"


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    file: Path | None = None
    """A line of JSON for each request is appended. Default: standard error."""
    requests: bool = True
    """Whether there are such lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSource:
    """Where a secret comes from: one of these."""

    env: str | None = None
    """A variable of the server's environment."""
    file: Path | None = None
    """Its content; a line's end at its end is dropped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class App:
    """An application that is declared in the file; at each start the server makes it so."""

    module: Path
    """A .wasm or a .wat, or a directory of sources as `lucet deploy` takes it."""
    routes: tuple[Route, ...] = ()
    """"host", "host/path", "*.domain", "*": which requests it gets. An application may have none, as filters do."""
    limits: Mapping[str, int | float] = field(default_factory=dict)
    """Of [limits], those of one request."""
    configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Configuration stores by name; "" is the application's own, what CGI programs have as environment."""
    secrets: Mapping[str, Mapping[str, SecretSource]] = field(default_factory=dict)
    """Secret stores by name."""
    backends: Mapping[str, str] = field(default_factory=dict)
    """Names of places to send requests to, and their base URLs."""
    allowed_outbound_hosts: tuple[str, ...] = ()
    """Patterns "scheme://host:port" of where requests may go. Default: nowhere."""
    filters: tuple[FilterUse, ...] = ()
    """Applications of this tenant that are filters, outermost first."""
    health: bool = False
    """Whether the server answers GET /__health in the application's place."""
    development: bool = False
    """Whether responses tell what went wrong in a guest."""

    def settings(self) -> AppSettings:
        return AppSettings(**{one.name: getattr(self, one.name) for one in fields(AppSettings)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    limits: Mapping[str, int | float] = field(default_factory=dict)
    """Of [limits], those that differ."""
    apps: Mapping[str, App] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    listen: tuple[str, ...] = ("127.0.0.1:8080",)
    """Addresses "host:port", "[::]:port"; or "unix:" and a path."""
    data: Path = Path("terrarium-data")
    """The directory of the server's state, closed to others. Paths are relative to the file that they are in."""
    grace: float = 30.0
    """Seconds that requests have at the end."""
    keys: str = ""
    """Where key-value stores are: "redis://host:port/number". Default: in a file of `data`."""
    resolver: str = ""
    """A name server, "address:port", for guests that ask for names themselves. Default: they get no answer."""
    development: bool = False
    """Whether responses tell what went wrong in guests, for all applications."""
    tls: Tls | None = None
    admin: Admin = Admin()
    limits: Limits = field(default_factory=Limits)
    """Of each tenant, unless it has its own."""
    capacity: Capacity = Capacity()
    build: Build = Build()
    original: Original | None = None
    log: Log = Log()
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """Declared in the file; others are made by the admin API."""


def read_config(path: Path) -> Config:
    """ConfigError, OSError."""
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ConfigError(f"{path}: is larger than {_MAX_FILE} bytes")
    return parse_config(data, str(path), path.absolute().parent)


def parse_config(data: bytes, name: str = "configuration", base: Path | None = None) -> Config:
    """base: what relative paths in it begin at. ConfigError."""
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        lines = data.count(b"\n") + 1
        if place is None:  # "at end of document"
            raise ConfigError(f"{name}:{lines}: {error}") from None
        raise ConfigError(f"{name}:{place[2]}:{place[3]}: {place[1]}") from None
    try:
        return _checked(read(Config, table), base or Path.cwd())
    except BadSetting as error:
        raise ConfigError(f"{name}: {error}") from None


def _checked(config: Config, base: Path) -> Config:
    """What the types do not say, and paths made absolute."""
    for number, one in enumerate(config.listen):
        split_address(one, f"listen[{number}]")
    if config.admin.listen is not None:
        split_address(config.admin.listen, "admin.listen")
    if config.original is not None:
        name_of(config.original.tenant, "original.tenant")
    tenants = {name_of(name, "tenants"): _tenant(name, one) for name, one in config.tenants.items()}
    seen: dict[Route, str] = {}
    for name, tenant in tenants.items():
        for app_name, app in tenant.apps.items():
            where = f"tenants.{name}.apps.{app_name}"
            for number, route in enumerate(app.routes):
                if seen.setdefault(route, where) != where:
                    raise BadSetting(f"{where}.routes[{number}]", f"{route.host}{route.path} is that of {seen[route]}")
    absolute: Config = _absolute(replace(config, tenants=tenants), base)
    return absolute


def _tenant(name: str, tenant: Tenant) -> Tenant:
    where = f"tenants.{name}"
    limits = limits_of(tenant.limits, f"{where}.limits", tenant=True)
    return replace(
        tenant, limits=limits, apps={app: _app(f"{where}.apps", app, one) for app, one in tenant.apps.items()}
    )


def _app(where: str, name: str, app: App) -> App:
    where = f"{where}.{name_of(name, where)}"
    settings = app_settings_of(to_json(app.settings()), where)
    for kind, stores in (("configuration", app.configuration), ("secrets", app.secrets)):
        for store, values in stores.items():
            for key in (store, *values):
                key_of(key, f"{where}.{kind}")
    for store, sources in app.secrets.items():
        for key, source in sources.items():
            if (source.env is None) == (source.file is None):
                raise BadSetting(f"{where}.secrets.{store}.{key}", 'must have one of "env" and "file"')
    return replace(app, limits=settings.limits)


def _absolute(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, Mapping):
        return {key: _absolute(one, base) for key, one in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{one.name: _absolute(getattr(value, one.name), base) for one in fields(value)})
    return value


def split_address(text: str, where: str) -> tuple[str, int] | Path:
    """(host, port) of "host:port", or the path of "unix:path". BadSetting."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not 0 < len(os.fsencode(path)) < 108:  # sizeof(sockaddr_un.sun_path)
            raise BadSetting(where, f"the path of a unix socket has 1 to 107 bytes, not {path!r}")
        return Path(path)
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise BadSetting(where, f'must be "host:port" or "unix:path", not {text!r}')
    return host.removeprefix("[").removesuffix("]"), int(port)


def secret_of(source: SecretSource, where: str) -> bytes:
    """BadSetting: it is not there."""
    if source.env is not None:
        value = os.environ.get(source.env)
        if value is None:
            raise BadSetting(where, f"there is no environment variable {source.env}")
        return os.fsencode(value)
    assert source.file is not None
    try:
        return source.file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise BadSetting(where, f"{source.file}: {error.strerror}") from None
