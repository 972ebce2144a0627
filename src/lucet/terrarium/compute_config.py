"""What the section [local_server] of a fastly.toml says, as an application's settings: so projects run unchanged."""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lucet.terrarium.compute_stores import PLATFORM
from lucet.terrarium.settings import BadSetting

MAX_FILE: Final = 32 << 20
SECTION: Final = "local_server"

Files = Callable[[str], bytes]
"""Gives the content of a file that the section names. OSError."""

_BACKEND: Final = frozenset({"url", "override_host"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seed:
    """Something that a key-value store begins with."""

    store: str
    key: str
    value: bytes
    metadata: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalServer:
    """Fields of AppSettings and Environment, and what stores begin with."""

    backends: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Configuration stores, and what the platform's own calls are answered from, under names that begin with
    "fastly:"."""
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    seeds: tuple[Seed, ...] = ()
    ignored: tuple[str, ...] = ()
    """Dotted keys that mean nothing here: to be told, as they may have been meant to restrict something."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Where the backends are, for allowed_outbound_hosts."""
        return tuple(dict.fromkeys(_origin(url) for url in self.backends.values()))


def files_beneath(folder: Path) -> Files:
    """The files of a project, and no others: its manifest may be somebody else's."""
    root = folder.resolve()

    def read(name: str) -> bytes:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise PermissionError(f"{name} is not beneath {folder}")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise OSError(f"{name} has more than {MAX_FILE} bytes")
        return data

    return read


def read_manifest(data: bytes, files: Files, environ: Mapping[str, str] | None = None) -> LocalServer:
    """Of the text of a fastly.toml. BadSetting names the key."""
    try:
        manifest = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSetting("", f"is no TOML: {error}") from None
    return local_server(manifest.get(SECTION, {}), files, environ)


def local_server(section: object, files: Files, environ: Mapping[str, str] | None = None) -> LocalServer:
    """Of the table [local_server]. environ: variables that secrets may be taken from; None: there are none.

    BadSetting names the key.
    """
    table = _table(section, SECTION)
    reader = _Reader(files, environ or {})
    for name, value in table.items():
        where = f"{SECTION}.{name}"
        match name:
            case "backends":
                reader.backends_of(value, where)
            case "config_stores" | "dictionaries":
                reader.stores_of(value, where)
            case "kv_stores" | "object_stores" | "object_store":
                reader.seeds_of(value, where)
            case "secret_stores" | "secret_store":
                reader.secrets_of(value, where)
            case "geolocation":
                reader.platform_of(value, where, "addresses")
            case "device_detection":
                reader.platform_of(value, where, "user_agents")
            case "acls":
                reader.acls_of(value, where)
            case _:
                reader.ignored.append(where)
    return LocalServer(
        backends=reader.backends,
        configuration=reader.configuration,
        secrets=reader.secrets,
        seeds=tuple(reader.seeds),
        ignored=tuple(reader.ignored),
    )


class _Reader:
    def __init__(self, files: Files, environ: Mapping[str, str]) -> None:
        self._files = files
        self._environ = environ
        self.backends: dict[str, str] = {}
        self.configuration: dict[str, dict[str, str]] = {}
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.seeds: list[Seed] = []
        self.ignored: list[str] = []

    def backends_of(self, value: object, where: str) -> None:
        for name, one, place in _entries(value, where):
            backend = _table(one, place)
            url = _text(backend.get("url"), f"{place}.url")
            try:
                parts = urlsplit(url)
                ok = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
            except ValueError:
                ok = False
            if not ok:
                raise BadSetting(f"{place}.url", f"must be an http or https URL, not {url!r}")
            self.backends[name] = url
            if "override_host" in backend:
                host = _text(backend["override_host"], f"{place}.override_host")
                if not re.fullmatch(r"[!-~]+", host):
                    raise BadSetting(f"{place}.override_host", f"must be a host, not {host!r}")
                self.configuration.setdefault(f"{PLATFORM}override_host", {})[name] = host
            self.ignored += (f"{place}.{key}" for key in backend if key not in _BACKEND)

    def stores_of(self, value: object, where: str) -> None:
        for name, one, place in _entries(value, where):
            if name.startswith(PLATFORM):
                raise BadSetting(place, f"a store's name cannot begin with {PLATFORM!r}")
            items = self._inline_or_json(one, place, "contents")
            self.configuration[name] = {key: _text(item, f"{place}.{key}") for key, item in items.items()}

    def platform_of(self, value: object, where: str, inline: str) -> None:
        """What is looked up by an address or by a user agent, as JSON."""
        table = dict(_table(value, where))
        if "use_default_loopback" in table:
            self.ignored.append(f"{where}.use_default_loopback")
            del table["use_default_loopback"]
        found = {}
        for key, item in self._inline_or_json(table, where, inline).items() if table else ():
            try:
                name = str(ipaddress.ip_address(key)) if inline == "addresses" else key
            except ValueError:
                raise BadSetting(f"{where}.{key}", "is no address") from None
            found[name] = json.dumps(_table(item, f"{where}.{key}"), separators=(",", ":"))
        self.configuration[PLATFORM + where.rpartition(".")[2]] = found

    def acls_of(self, value: object, where: str) -> None:
        for name, one, place in _entries(value, where):
            file = one if isinstance(one, str) else _table(one, place).get("file")
            source = one if file is None else self._json(file, place)
            entries = _table(source, place).get("entries")
            if not isinstance(entries, list):
                raise BadSetting(place, 'must have a list "entries"')
            actions = {}
            for number, entry in enumerate(entries):
                at = f"{place}.entries[{number}]"
                prefix = _text(_table(entry, at).get("prefix"), f"{at}.prefix")
                try:
                    network = ipaddress.ip_network(prefix, strict=False)
                except ValueError:
                    raise BadSetting(f"{at}.prefix", f"must be an address with a length, not {prefix!r}") from None
                actions[str(network)] = _text(entry.get("action"), f"{at}.action")
            self.configuration[f"{PLATFORM}acl:{name}"] = actions

    def seeds_of(self, value: object, where: str) -> None:
        for name, one, place in _entries(value, where):
            for key, item, at in self._items(one, place):
                metadata = _text(item.get("metadata", ""), f"{at}.metadata").encode()
                self.seeds.append(Seed(store=name, key=key, value=self._data(item, at), metadata=metadata))

    def secrets_of(self, value: object, where: str) -> None:
        for name, one, place in _entries(value, where):
            store = self.secrets.setdefault(_name(name, place), {})
            for key, item, at in self._items(one, place):
                store[_name(key, at)] = self._data(item, at, may_be_variable=True)

    def _items(self, value: object, where: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
        """Key, the rest, and the place, of a list of tables with keys, or of {file, format = "json"}."""
        if isinstance(value, dict) and ("file" in value or "format" in value):
            for key, item in self._inline_or_json(value, where, "").items():
                yield key, {"data": item} if isinstance(item, str) else _table(item, f"{where}.{key}"), f"{where}.{key}"
            return
        if not isinstance(value, list):
            raise BadSetting(where, 'must be a list of tables with a "key", or have "file" and "format"')
        for number, item in enumerate(value):
            at = f"{where}[{number}]"
            yield _text(_table(item, at).get("key"), f"{at}.key"), item, at

    def _data(self, item: Mapping[str, Any], where: str, *, may_be_variable: bool = False) -> bytes:
        sources = {"data", "file", "path"} | ({"env"} if may_be_variable else set())
        given = [key for key in item if key in sources]
        if len(given) != 1:
            raise BadSetting(where, f"must have one of {', '.join(sorted(sources))}")
        text = _text(item[given[0]], f"{where}.{given[0]}")
        match given[0]:
            case "data":
                return text.encode()
            case "env":
                if text not in self._environ:
                    raise BadSetting(f"{where}.env", f"there is no variable {text!r} for it")
                return self._environ[text].encode(errors="surrogateescape")
            case _:
                return self._file(text, where)

    def _inline_or_json(self, value: object, where: str, inline: str) -> Mapping[str, Any]:
        """format = "json" and a file, or format = "inline-toml" and a table of that name."""
        table = _table(value, where)
        kind = _text(table.get("format"), f"{where}.format")
        if kind == "json":
            return _table(self._json(table.get("file"), where), where)
        if kind == "inline-toml" and inline:
            return _table(table.get(inline), f"{where}.{inline}")
        allowed = '"json" or "inline-toml"' if inline else '"json"'
        raise BadSetting(f"{where}.format", f"must be {allowed}, not {kind!r}")

    def _json(self, name: object, where: str) -> object:
        data = self._file(_text(name, f"{where}.file"), where)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadSetting(f"{where}.file", f"is no JSON: {error}") from None

    def _file(self, name: str, where: str) -> bytes:
        try:
            return self._files(name)
        except (OSError, ValueError) as error:
            raise BadSetting(where, f"the file {name!r} cannot be read: {error}") from None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadSetting(where, "must be a table")
    return value


def _entries(value: object, where: str) -> Iterator[tuple[str, Any, str]]:
    for name, one in _table(value, where).items():
        yield name, one, f"{where}.{name}"


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise BadSetting(where, "is missing" if value is None else "must be a text")
    return value


def _name(value: str, where: str) -> str:
    if not _NAME.fullmatch(value):
        raise BadSetting(where, "must have 1 to 255 letters, digits, hyphens, underscores and periods")
    return value
