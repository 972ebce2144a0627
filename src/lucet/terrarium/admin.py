"""The admin API: JSON over HTTP on a socket of its own, with a token. One table says what there is, for all readers.

GET /_admin/v1/openapi.json describes it; the editor page (page.py) is one of its users.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote

from lucet.errors import LucetError
from lucet.terrarium.catalogue import Application, NotDeployed
from lucet.terrarium.database import StoreFailed
from lucet.terrarium.deploy import KINDS, QueueFull, Upload
from lucet.terrarium.environment import StoreFull
from lucet.terrarium.http import BodyTooLarge, Exchange, Headers, read_all
from lucet.terrarium.settings import (
    AppSettings,
    BadSetting,
    app_settings_of,
    changed,
    key_of,
    limits_of,
    name_of,
    route_of,
    sticky_of,
    to_json,
)
from lucet.terrarium.store import Absent, Taken
from lucet.terrarium.untar import MOST_FILES, check_path

if TYPE_CHECKING:
    from lucet.terrarium.catalogue import Operations
    from lucet.terrarium.deploy import Deployer, Job
    from lucet.terrarium.store import Store

PREFIX: Final = "/_admin/v1"
_SETTINGS_BODY: Final = 1 << 20
_JSON: Final[Headers] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_NO_ROOM: Final = 507
_LAST_TIME: Final = 1 << 53


class BadRequest(Exception):
    """The client's error: the message names what is wrong."""


@dataclass(slots=True)
class Call:
    """One request to the API."""

    exchange: Exchange
    names: dict[str, str]
    """Of the path's variables."""
    query: dict[str, str]
    body: Any = None

    def __getitem__(self, name: str) -> str:
        return self.names[name]

    def field(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Of the body, which is an object."""
        value = self.body.get(name, default)
        if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise BadSetting(name, f"must be of another type, not {json.dumps(value)[:60]}")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    method: str
    path: str
    """With variables: /tenants/{tenant}."""
    summary: str
    run: Callable[[Call], Any]
    fields: Mapping[str, str]
    """Of the body: what each is."""
    writes: bool = False
    """Whether all that it does is to change the store, which may be done in another thread."""


class Admin:
    """catalogue.Service. token: what clients must know. url: of an application that the page deploys, with {name}."""

    def __init__(self, store: Store, deployer: Deployer, operations: Operations, token: str, url: str = "") -> None:
        self.store = store
        self.deployer = deployer
        self.operations = operations
        self._token = token.encode()
        self._url = url
        self._started = time.time()
        self._table = self._operations()
        self._patterns = [(re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", one.path)), one) for one in self._table]

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.path.removeprefix(PREFIX)
        if not self.may(exchange):
            return
        found = [(match, one) for pattern, one in self._patterns if (match := pattern.fullmatch(path))]
        if not found:
            _answer(exchange, 404, {"error": f"there is nothing at {request.path}: see {PREFIX}/openapi.json"})
            return
        match, operation = next((pair for pair in found if pair[1].method == request.method), (None, None))
        if match is None or operation is None:
            allowed = ", ".join(one.method for _, one in found)
            _answer(
                exchange, 405, {"error": f"{request.method} is not for this: {allowed}"}, (b"allow", allowed.encode())
            )
            return
        await self._run(exchange, operation, {key: unquote(value) for key, value in match.groupdict().items()})

    async def _run(self, exchange: Exchange, operation: Operation, names: dict[str, str]) -> None:
        query = {key: values[-1] for key, values in parse_qs(exchange.request.query).items()}
        call = Call(exchange, names, query)
        try:
            for variable in ("tenant", "app"):
                if variable in names:
                    name_of(names[variable], variable)
            if operation.method in ("POST", "PUT", "PATCH"):
                call.body = await self._body(exchange, operation)
            if operation.writes:
                # The event loop does not wait for the disk.
                result = await asyncio.to_thread(operation.run, call)
            else:
                result = operation.run(call)
            if isinstance(result, Awaitable):
                result = await result
            if not exchange.status:
                _answer(exchange, 200, {} if result is None else result)
        except (Absent, NotDeployed) as error:
            _answer(exchange, 404, {"error": str(error)})
        except Taken as error:
            _answer(exchange, 409, {"error": str(error)})
        except BadSetting as error:
            _answer(exchange, 400, {"error": str(error), "field": error.field})
        except (BadRequest, ValueError) as error:
            _answer(exchange, 400, {"error": str(error)})
        except BodyTooLarge as error:
            _answer(exchange, 413, {"error": str(error)})
        except QueueFull as error:
            _answer(exchange, 429, {"error": str(error)}, (b"retry-after", b"5"))
        except (StoreFull, StoreFailed) as error:
            _answer(exchange, _NO_ROOM, {"error": str(error)})
        except OSError as error:
            _answer(exchange, _NO_ROOM, {"error": f"the server's disk: {error.strerror}"})
        except LucetError as error:
            _answer(exchange, 400, {"error": str(error)})

    def may(self, exchange: Exchange) -> bool:
        """Whether the client knows the token; if not, it is told so."""
        scheme, _, token = (exchange.request.header(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token):
            return True
        _answer(exchange, 401, {"error": "the token is missing or wrong"}, (b"www-authenticate", b"Bearer"))
        return False

    async def _body(self, exchange: Exchange, operation: Operation) -> Any:
        if "raw" in operation.fields:
            return await read_all(exchange.request.body, 64 << 20)
        large = "files" in operation.fields
        # Files come in base64, a third larger than they are.
        limit = 2 * self.deployer.limits.source if large else _SETTINGS_BODY
        data = await read_all(exchange.request.body, limit)
        if not data:
            return {}
        try:
            body = await asyncio.to_thread(json.loads, data) if large else json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is no JSON: {error}") from None
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        known = operation.fields.keys()
        if known and "*" not in known and (unknown := [key for key in body if key not in known]):
            raise BadSetting(unknown[0], f"unknown; there are {', '.join(known)}")
        return body

    # What there is.

    def _operations(self) -> list[Operation]:
        table: list[Operation] = []

        def add(method: str, path: str, summary: str, run: Callable[[Call], Any], **fields: str) -> None:
            elsewhere = ("/deploy", "/drain", "/{key}")
            writes = method != "GET" and not path.endswith(elsewhere)
            one = Operation(method=method, path=path, summary=summary, run=run, fields=fields, writes=writes)
            table.append(one)

        tenant, app = "/tenants/{tenant}", "/tenants/{tenant}/apps/{app}"
        settings = {
            "routes": 'what it answers: ["host/path", "*.example.com", ...]',
            "limits": "those that differ from the tenant's",
            "backends": "names of places to send requests to, and their URLs",
            "allowed_outbound_hosts": "patterns scheme://host:port",
            "filters": "applications in front of it: [{application, version, configuration}]",
            "health": "whether GET /__health is answered by the platform",
            "development": "whether responses tell what went wrong",
            "expires": "seconds since the epoch, or null",
        }
        add("GET", "/openapi.json", "this description", lambda call: self.openapi())
        add("GET", "/status", "the server's", self._status)
        add("GET", "/metrics", "in Prometheus' text format", self._metrics)
        add("GET", "/languages", "what source code can be deployed", self._languages)
        add("GET", "/jobs/{job}", "a deployment on its way", self._get_job)
        add("GET", "/tenants", "names", lambda call: {"tenants": self.store.tenants()})
        add("GET", tenant, "its limits, and its applications", self._get_tenant)
        add("PUT", tenant, "make it, or replace its limits", self._put_tenant, limits="those that differ")
        add("DELETE", tenant, "with all its applications", lambda call: self.store.delete_tenant(call["tenant"]))
        add("GET", tenant + "/apps", "all of a tenant's", self._get_apps)
        add("GET", app, "settings, routes, versions in service", self._get_app)
        add("PUT", app, "make it, or replace its settings", self._put_app, **settings)
        add("PATCH", app, "change some settings", self._patch_app, **settings)
        add(
            "DELETE",
            app,
            "with all its versions",
            lambda call: self.store.delete_application(call["tenant"], call["app"]),
        )
        add(
            "POST",
            app + "/deploy",
            "build, store, warm and activate a version",
            self._deploy,
            kind=", ".join(KINDS),
            files="by path: a string, or {base64: ...}; assets/ are served in front of the guest",
            activate="false: make it ready only",
            **{**settings, "health": "a path that must be answered with 200..399 before it is activated, or a setting"},
        )
        add("GET", app + "/versions", "newest first", self._get_versions)
        add("DELETE", app + "/versions/{version}", "one that is not in service", self._delete_version)
        add(
            "POST",
            app + "/activate",
            "let versions answer",
            self._activate,
            version="one version for all requests; or",
            shares="[{version, weight}]",
            sticky="cookie:NAME, header:NAME, client, or empty",
        )
        add("POST", app + "/rollback", "to what was in service before", self._roll_back)
        add("POST", app + "/drain", "wait for a version's last requests", self._drain, version="", patience="seconds")
        add("POST", app + "/stop", "answer 503", lambda call: self.store.set_stopped(call["tenant"], call["app"], True))
        add("POST", app + "/start", "again", lambda call: self.store.set_stopped(call["tenant"], call["app"], False))
        add("GET", app + "/configuration", "all stores", self._get_configuration)
        add("PUT", app + "/configuration/{store}", "set values; null removes", self._put_configuration, **{"*": "text"})
        add("GET", app + "/secrets", "their names", lambda call: self.store.secrets(call["tenant"], call["app"]))
        add("PUT", app + "/secrets/{store}", "set values; null removes", self._put_secrets, **{"*": "text"})
        add("GET", app + "/logs", "the last requests; ?limit=N", self._logs)
        add("GET", app + "/logs/follow", "server-sent events", self._follow)
        add("GET", app + "/events", "what was done to it", self._events)
        add("GET", tenant + "/kv/{store}", "keys; ?prefix=, ?after=, ?limit=", self._keys)
        add("GET", tenant + "/kv/{store}/{key}", "a value", self._get_key)
        add("PUT", tenant + "/kv/{store}/{key}", "a value", self._put_key, raw="the value")
        add("DELETE", tenant + "/kv/{store}/{key}", "a value", self._delete_key)
        return table

    def openapi(self) -> dict[str, Any]:
        """OpenAPI 3.1."""
        paths: dict[str, dict[str, Any]] = {}
        for one in self._table:
            described: dict[str, Any] = {
                "summary": one.summary,
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in re.findall(r"\{(\w+)\}", one.path)
                ],
                "responses": {"200": {"description": "done"}, "default": {"description": '{"error": "..."}'}},
            }
            if "raw" in one.fields:
                described["requestBody"] = {"content": {"application/octet-stream": {}}}
            elif one.fields:
                properties = {name: {"description": text} for name, text in one.fields.items() if name != "*"}
                schema = {"type": "object", "properties": properties, "additionalProperties": "*" in one.fields}
                described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
            paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = described
        return {
            "openapi": "3.1.0",
            "info": {"title": "Terrarium's admin API", "version": _version()},
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            "security": [{"token": []}],
            "paths": paths,
        }

    # The server.

    def _status(self, call: Call) -> Any:
        tenants = len(self.store.tenants())
        return {"version": _version(), "started": self._started, "tenants": tenants, "url": self._url}

    def _metrics(self, call: Call) -> None:
        text = self.operations.metrics().encode()
        call.exchange.respond(200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], text)

    def _languages(self, call: Call) -> Any:
        return {
            "languages": [
                {"kind": one.kind, "title": one.title, "available": one.available, "missing": one.missing}
                for one in self.deployer.toolchain.languages()
            ]
        }

    # Tenants and applications.

    def _get_tenant(self, call: Call) -> Any:
        limits = self.store.tenant_limits(call["tenant"])
        return {
            "tenant": call["tenant"],
            "limits": limits,
            "apps": [one["app"] for one in self._get_apps(call)["apps"]],
        }

    def _put_tenant(self, call: Call) -> None:
        limits = limits_of(call.field("limits", dict, {}), "limits", tenant=True)
        self.store.put_tenant(call["tenant"], limits)

    def _get_apps(self, call: Call) -> Any:
        self.store.tenant_limits(call["tenant"])  # Absent
        applications = self.deployer.catalogue.snapshot.applications
        found = [one for key, one in applications.items() if key[0] == call["tenant"]]
        return {"apps": [_shown(one) for one in sorted(found, key=lambda one: one.name)]}

    def _get_app(self, call: Call) -> Any:
        key = (call["tenant"], call["app"])
        application = self.store.applications([key]).get(key)
        if application is None:
            raise Absent(f"there is no application {key[0]}/{key[1]}")
        return {**_shown(application), "settings": to_json(self.store.settings(*key))}

    def _settings(self, call: Call, old: AppSettings | None) -> dict[str, Any]:
        """What put_application takes."""
        body = dict(call.body)
        given: dict[str, Any] = {}
        for name in ("kind", "files", "activate", "health_path"):
            body.pop(name, None)
        if "routes" in body:
            routes = body.pop("routes")
            if not isinstance(routes, list):
                raise BadSetting("routes", "must be a list")
            given["routes"] = tuple(route_of(one, f"routes[{index}]") for index, one in enumerate(routes))
        if "expires" in body:
            expires = body.pop("expires")
            if expires is not None and not _is_number(expires, 0, _LAST_TIME):
                raise BadSetting("expires", "must be seconds since the epoch, or null")
            given["expires"] = expires
        if body or old is None:
            given["settings"] = app_settings_of(body) if old is None else changed(old, body, app_settings_of)
        return given

    def _put_app(self, call: Call) -> None:
        self._put(call, self._settings(call, None))

    def _patch_app(self, call: Call) -> None:
        given = self._settings(call, self.store.settings(call["tenant"], call["app"]))
        if given:
            self._put(call, given)

    def _put(self, call: Call, given: dict[str, Any]) -> None:
        with self.store.change():
            self.store.put_application(call["tenant"], call["app"], **given)
            if given.get("expires", 0) is None:
                self.store.set_expiry(call["tenant"], call["app"], None)

    # Versions.

    async def _deploy(self, call: Call) -> None:
        kind = call.field("kind", str, "wasm")
        if kind not in KINDS:
            raise BadSetting("kind", f"must be one of {', '.join(KINDS)}, not {kind!r}")
        health = call.body.pop("health", None) if isinstance(call.body.get("health"), str) else None
        files = await asyncio.to_thread(_files, call.field("files", dict, {}), self.deployer.limits.source)
        activate = call.field("activate", bool, True)
        key = (call["tenant"], call["app"])
        old = self.store.applications([key]).get(key)
        given = self._settings(call, None if old is None else self.store.settings(*key))
        upload = Upload(
            tenant=key[0], application=key[1], kind=kind, files=files, activate=activate, health=health, **given
        )
        job = self.deployer.submit(upload)
        _answer(call.exchange, 202, _job(job))

    def _get_job(self, call: Call) -> Any:
        job = self.deployer.job(call["job"])
        if job is None:
            raise Absent(f"there is no job {call['job']}")
        return _job(job)

    def _get_versions(self, call: Call) -> Any:
        shares = dict(self._shares(call))
        return {
            "versions": [
                {
                    "version": one.name,
                    "digest": one.digest,
                    "interface": one.interface,
                    "size": one.size,
                    "kind": one.kind,
                    "created": one.created,
                    "assets": one.assets,
                    "weight": shares.get(one.name, 0),
                    "in_flight": self.operations.in_flight(call["tenant"], call["app"], one.name),
                }
                for one in self.store.versions(call["tenant"], call["app"])
            ]
        }

    def _shares(self, call: Call) -> tuple[tuple[str, int], ...]:
        key = (call["tenant"], call["app"])
        application = self.store.applications([key]).get(key)
        return () if application is None else application.shares

    def _delete_version(self, call: Call) -> None:
        self.store.delete_version(call["tenant"], call["app"], call["version"])

    def _activate(self, call: Call) -> Any:
        shares: list[tuple[str, int]] = []
        version = call.field("version", (str, int))
        if version is not None:
            shares = [(str(version), 1)]
        for index, one in enumerate(call.field("shares", list, [])):
            where = f"shares[{index}]"
            if not isinstance(one, dict) or set(one) != {"version", "weight"}:
                raise BadSetting(where, "must be {version, weight}")
            weight = one["weight"]
            if not isinstance(weight, int) or not _is_number(weight, 1, 1_000_000):
                raise BadSetting(f"{where}.weight", "must be a whole number from 1 to 1,000,000")
            shares.append((str(one["version"]), weight))
        if not shares or len({name for name, _ in shares}) < len(shares):
            raise BadSetting("shares", "name one version or more, each once")
        sticky = call.field("sticky", str)
        self.deployer.activate(
            call["tenant"], call["app"], shares, None if sticky is None else sticky_of(sticky, "sticky")
        )
        return {"shares": [{"version": name, "weight": weight} for name, weight in shares]}

    def _roll_back(self, call: Call) -> Any:
        shares = self.deployer.roll_back(call["tenant"], call["app"])
        return {"shares": [{"version": name, "weight": weight} for name, weight in shares]}

    async def _drain(self, call: Call) -> Any:
        self.store.settings(call["tenant"], call["app"])  # Absent
        version = str(call.field("version", (str, int), ""))
        if version in dict(self._shares(call)):
            raise BadSetting("version", f"version {version} is in service: activate another first")
        patience = call.field("patience", (int, float), 30.0)
        if not _is_number(patience, 0, 600):
            raise BadSetting("patience", "must be seconds from 0 to 600")
        left = await self.deployer.drain(call["tenant"], call["app"], version, patience)
        return {"version": version, "in_flight": left}

    # Configuration, secrets, the key-value store.

    def _get_configuration(self, call: Call) -> Any:
        return self.store.configuration(call["tenant"], call["app"])

    def _put_configuration(self, call: Call) -> None:
        values = _values(call)
        self.store.put_configuration(call["tenant"], call["app"], _store_name(call), values)

    def _put_secrets(self, call: Call) -> None:
        values = {name: None if value is None else value.encode() for name, value in _values(call).items()}
        self.store.put_secrets(call["tenant"], call["app"], _store_name(call), values)

    async def _keys(self, call: Call) -> Any:
        limit = call.query.get("limit", "1000")
        if not limit.isdecimal():
            raise BadRequest("limit must be a number")
        prefix, after = call.query.get("prefix", "").encode(), call.query.get("after", "").encode()
        self.store.tenant_limits(call["tenant"])  # Absent
        keys = self.operations.keys(call["tenant"])
        found = keys.keys(_kv_store(call), prefix=prefix, after=after, limit=min(int(limit), 10_000))
        if isinstance(found, Awaitable):
            found = await found
        return {"keys": [one.decode("utf-8", "backslashreplace") for one in found]}

    async def _get_key(self, call: Call) -> None:
        self.store.tenant_limits(call["tenant"])  # Absent
        found = self.operations.keys(call["tenant"]).get(_kv_store(call), call["key"].encode())
        if isinstance(found, Awaitable):
            found = await found
        if found is None:
            raise Absent(f"there is no key {call['key']!r}")
        call.exchange.respond(200, [(b"content-type", b"application/octet-stream")], found.value)

    async def _put_key(self, call: Call) -> None:
        self.store.tenant_limits(call["tenant"])  # Absent
        written = self.operations.keys(call["tenant"]).put(_kv_store(call), call["key"].encode(), call.body)
        if isinstance(written, Awaitable):
            await written

    async def _delete_key(self, call: Call) -> None:
        self.store.tenant_limits(call["tenant"])  # Absent
        found = self.operations.keys(call["tenant"]).delete(_kv_store(call), call["key"].encode())
        if isinstance(found, Awaitable):
            found = await found
        if not found:
            raise Absent(f"there is no key {call['key']!r}")

    # Logs.

    def _logs(self, call: Call) -> Any:
        self.store.settings(call["tenant"], call["app"])  # Absent
        limit = call.query.get("limit", "100")
        if not limit.isdecimal():
            raise BadRequest("limit must be a number")
        return {"lines": self.operations.log_tail(call["tenant"], call["app"], int(limit))}

    async def _follow(self, call: Call) -> None:
        self.store.settings(call["tenant"], call["app"])  # Absent
        exchange = call.exchange
        await exchange.start(200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])
        await exchange.write(b": following\n\n")
        async with aclosing(self.operations.log_follow(call["tenant"], call["app"])) as lines:
            async for line in lines:
                # A comment is how a client that is gone without a word is noticed.
                await exchange.write(b":\n\n" if line is None else b"data: " + json.dumps(line).encode() + b"\n\n")

    def _events(self, call: Call) -> Any:
        self.store.settings(call["tenant"], call["app"])  # Absent
        return {"events": [{"time": at, "what": what} for at, what in self.store.events(call["tenant"], call["app"])]}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lucet")
    except PackageNotFoundError:
        return "not installed"  # but run from its sources


def _shown(application: Application) -> dict[str, Any]:
    return {
        "app": application.name,
        "routes": [one.host + one.path for one in application.routes],
        "shares": [{"version": name, "weight": weight} for name, weight in application.shares],
        "sticky": application.sticky,
        "expires": application.expires,
        "stopped": application.stopped,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "status": job.status,
        "done": job.done,
        "success": job.success,
        "version": job.version,
        "log": job.log,
    }


def _is_number(value: object, least: int, most: int) -> bool:
    """Of JSON, where also NaN may stand."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _files(given: Mapping[str, Any], limit: int) -> dict[str, bytes]:
    files = {}
    room = limit
    if len(given) > MOST_FILES:
        raise BadSetting("files", f"are more than {MOST_FILES}")
    for path, content in given.items():
        try:
            check_path(path)
        except ValueError as error:
            raise BadSetting("files", str(error)) from None
        match content:
            case str():
                data = content.encode()
            case {"base64": str(text)}:
                try:
                    data = base64.b64decode(text, validate=True)
                except binascii.Error as error:
                    raise BadSetting(f"files.{path}", f"is not base64: {error}") from None
            case _:
                raise BadSetting(f"files.{path}", 'must be a string or {"base64": ...}')
        room -= len(data)
        if room < 0:
            raise BodyTooLarge(f"the files have more than {limit} bytes")
        files[path] = data
    return files


def _values(call: Call) -> dict[str, str | None]:
    for name, value in call.body.items():
        key_of(name, name)
        if value is not None and not isinstance(value, str):
            raise BadSetting(name, "must be a string, or null to remove it")
    return dict(call.body)


def _store_name(call: Call) -> str:
    """ "-" is the store without a name."""
    return "" if call["store"] == "-" else key_of(call["store"], "store")


def _kv_store(call: Call) -> str:
    return "" if call["store"] == "-" else call["store"]


def _answer(exchange: Exchange, status: int, body: Any, *more: tuple[bytes, bytes]) -> None:
    if not exchange.status:
        exchange.respond(status, [*_JSON, *more], json.dumps(body).encode())
