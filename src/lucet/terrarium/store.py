"""The server's state: one SQLite database, and files by their content beside it.

Every change is one transaction that is on the disk when its method returns; files are written before the rows that name
them, and removed after. So a process that is killed at any moment leaves what was acknowledged, and at worst files that
nothing names, which collect_garbage() removes. Methods may be called from any thread; reads do not wait for writes.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lucet.errors import LucetError
from lucet.terrarium.blobs import Blobs
from lucet.terrarium.catalogue import AppKey, Application, Asset, Deployment, NotDeployed, Route
from lucet.terrarium.database import Change, Database
from lucet.terrarium.limits import Limits
from lucet.terrarium.sealed import Seal, open_seal
from lucet.terrarium.settings import AppSettings, TenantSettings, app_settings_of, limits_of, read, to_json

_MAX_LOG: Final = 256 << 10
"""Characters of a build's log that are kept."""
_MAX_EVENTS: Final = 100_000


class Absent(LucetError):
    """There is no such thing; the message names it."""


class Taken(LucetError):
    """Something else has the name or the route."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAsset:
    path: str
    digest: str
    size: int
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NewVersion:
    """What was built; its files are in the store already."""

    digest: str
    interface: str
    size: int
    """Bytes of the .wasm."""
    kind: str
    """What it was built from: "wasm", "text", "c", "rust", "assemblyscript"."""
    log: str = ""
    assets: Sequence[NewAsset] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    name: str
    digest: str
    interface: str
    size: int
    kind: str
    log: str
    created: float
    """Seconds since the epoch."""
    assets: int


class Store(Database):
    def __init__(self, directory: Path, *, defaults: Limits | None = None) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.defaults = defaults or Limits()
        self.modules = Blobs(directory / "modules")
        self.artifacts = Blobs(directory / "artifacts")
        self.files = Blobs(directory / "assets")
        super().__init__(directory / "state.db")
        self._seal: Seal | None = None
        self._held: dict[str, int] = defaultdict(int)

    # Tenants

    def tenants(self) -> list[str]:
        return [name for (name,) in self.rows("SELECT name FROM tenants ORDER BY name")]

    def tenant(self, name: str) -> TenantSettings:
        """Absent."""
        return TenantSettings(limits=self._tenant_limits(name))

    def put_tenant(self, name: str, limits: Mapping[str, int | float] | None = None) -> None:
        """Make it, or replace its limits, if any are given."""
        with self.change() as change:
            given = json.dumps({} if limits is None else dict(limits))
            change.run("INSERT INTO tenants VALUES (?, ?) ON CONFLICT DO NOTHING", name, given)
            if limits is not None:
                change.run("UPDATE tenants SET settings = ? WHERE name = ?", given, name)
                self._touch(change, "tenant = ?", name)

    def tenant_limits(self, name: str) -> dict[str, int | float]:
        """Those that are not the server's defaults. Absent."""
        row = self.row("SELECT settings FROM tenants WHERE name = ?", name)
        if row is None:
            raise Absent(f"there is no tenant {name!r}")
        return limits_of(json.loads(row[0]), "", tenant=True)

    def _tenant_limits(self, name: str) -> Limits:
        return _replaced(self.defaults, self.tenant_limits(name))

    def delete_tenant(self, name: str) -> None:
        """With all its applications."""
        with self.change() as change:
            for (app,) in change.run("SELECT name FROM applications WHERE tenant = ?", name).fetchall():
                self._delete_application(change, name, app)
            if not change.run("DELETE FROM tenants WHERE name = ?", name).rowcount:
                raise Absent(f"there is no tenant {name!r}")

    # Applications

    def applications(self, keys: Iterable[AppKey] | None = None) -> dict[AppKey, Application]:
        """All, or those of these that there are."""
        if keys is None:
            with self.reading() as database:
                return self._applications(database, "", ())
        found: dict[AppKey, Application] = {}
        with self.reading() as database:
            for key in keys:
                found |= self._applications(database, "WHERE tenant = ? AND {} = ?", key)
        return found

    @staticmethod
    def _applications(database: sqlite3.Connection, where: str, values: Sequence[str]) -> dict[AppKey, Application]:
        routes = defaultdict(list)
        statement = "SELECT tenant, application, host, path FROM routes " + where.format("application")
        for tenant, name, host, path in database.execute(statement, values):
            routes[tenant, name].append(Route(host=host, path=path))
        statement = "SELECT tenant, name, shares, sticky, expires, stopped, generation FROM applications "
        return {
            (tenant, name): Application(
                tenant=tenant,
                name=name,
                routes=tuple(routes.get((tenant, name), ())),
                shares=tuple((str(version), weight) for version, weight in json.loads(shares)),
                sticky=sticky,
                expires=expires,
                stopped=bool(stopped),
                generation=generation,
            )
            for tenant, name, shares, sticky, expires, stopped, generation in database.execute(
                statement + where.format("name"), values
            )
        }

    def revision(self) -> int:
        row = self.row("SELECT value FROM counters WHERE name = 'revision'")
        assert row is not None
        return int(row[0])

    def settings(self, tenant: str, name: str) -> AppSettings:
        """Absent."""
        row = self.row("SELECT settings FROM applications WHERE tenant = ? AND name = ?", tenant, name)
        if row is None:
            raise Absent(f"there is no application {tenant}/{name}")
        return app_settings_of(json.loads(row[0]))

    def put_application(
        self,
        tenant: str,
        name: str,
        *,
        settings: AppSettings | None = None,
        routes: Sequence[Route] | None = None,
        expires: float | None = None,
        new: bool = False,
    ) -> None:
        """Make it, or change what is given. Absent: the tenant. Taken: a route, or, if it must be new, its name."""
        with self.change() as change:
            if change.run("SELECT 1 FROM tenants WHERE name = ?", tenant).fetchone() is None:
                raise Absent(f"there is no tenant {tenant!r}")
            made = change.run(
                "INSERT INTO applications (tenant, name, settings, expires, generation) VALUES (?, ?, ?, ?, 0) "
                "ON CONFLICT DO NOTHING",
                *(tenant, name, json.dumps(to_json(settings or AppSettings())), expires),
            ).rowcount
            if new and not made:
                raise Taken(f"there is an application {tenant}/{name} already")
            if settings is not None and not made:
                text = json.dumps(to_json(settings))
                change.run("UPDATE applications SET settings = ? WHERE tenant = ? AND name = ?", text, tenant, name)
            if expires is not None and not made:
                change.run("UPDATE applications SET expires = ? WHERE tenant = ? AND name = ?", expires, tenant, name)
            if routes is not None:
                self._set_routes(change, tenant, name, routes)
            self._note(change, tenant, name, "created" if made else "changed")

    def set_routes(self, tenant: str, name: str, routes: Sequence[Route]) -> None:
        """Instead of those it has. Taken names the application that has one of them."""
        with self.change() as change:
            self._set_routes(change, tenant, name, routes)
            self._note(change, tenant, name, f"routes: {', '.join(one.host + one.path for one in routes) or 'none'}")

    def _set_routes(self, change: Change, tenant: str, name: str, routes: Sequence[Route]) -> None:
        self._must_exist(change, tenant, name)
        change.run("DELETE FROM routes WHERE tenant = ? AND application = ?", tenant, name)
        for one in dict.fromkeys(routes):
            other = change.run(
                "SELECT tenant, application FROM routes WHERE host = ? AND path = ?", one.host, one.path
            ).fetchone()
            if other is not None:
                raise Taken(f"{one.host}{one.path} is routed to {other[0]}/{other[1]}")
            change.run("INSERT INTO routes VALUES (?, ?, ?, ?)", one.host, one.path, tenant, name)

    def set_stopped(self, tenant: str, name: str, stopped: bool) -> None:
        with self.change() as change:
            self._must_exist(change, tenant, name)
            change.run("UPDATE applications SET stopped = ? WHERE tenant = ? AND name = ?", stopped, tenant, name)
            self._note(change, tenant, name, "stopped" if stopped else "started")

    def set_expiry(self, tenant: str, name: str, expires: float | None) -> None:
        """Seconds since the epoch; None: never."""
        with self.change() as change:
            self._must_exist(change, tenant, name)
            change.run("UPDATE applications SET expires = ? WHERE tenant = ? AND name = ?", expires, tenant, name)
            self._note(change, tenant, name, f"expires: {expires}")

    def delete_application(self, tenant: str, name: str) -> None:
        with self.change() as change:
            self._delete_application(change, tenant, name)

    def _delete_application(self, change: Change, tenant: str, name: str) -> None:
        if not change.run("DELETE FROM applications WHERE tenant = ? AND name = ?", tenant, name).rowcount:
            raise Absent(f"there is no application {tenant}/{name}")
        change.run("DELETE FROM events WHERE tenant = ? AND application = ?", tenant, name)
        change.keys.add((tenant, name))

    def delete_expired(self) -> list[AppKey]:
        """Those whose time is over."""
        now = time.time()
        # Without a lock first: usually there are none.
        if not self.rows("SELECT 1 FROM applications WHERE expires <= ? LIMIT 1", now):
            return []
        with self.change() as change:
            found = change.run("SELECT tenant, name FROM applications WHERE expires <= ?", now).fetchall()
            for tenant, name in found:
                self._delete_application(change, tenant, name)
        return [(tenant, name) for tenant, name in found]

    # Versions

    def versions(self, tenant: str, name: str) -> list[Version]:
        """Newest first. Absent."""
        with self.reading() as database:
            if not self._applications(database, "WHERE tenant = ? AND {} = ?", (tenant, name)):
                raise Absent(f"there is no application {tenant}/{name}")
            rows = database.execute(
                "SELECT number, digest, interface, size, kind, log, created, (SELECT count(*) FROM assets "
                "WHERE assets.tenant = versions.tenant AND assets.application = versions.application "
                "AND assets.number = versions.number) FROM versions WHERE tenant = ? AND application = ? "
                "ORDER BY number DESC",
                (tenant, name),
            )
            return [
                Version(
                    name=str(number),
                    digest=digest,
                    interface=interface,
                    size=size,
                    kind=kind,
                    log=log,
                    created=created,
                    assets=assets,
                )
                for number, digest, interface, size, kind, log, created, assets in rows
            ]

    def add_version(self, tenant: str, name: str, version: NewVersion) -> str:
        """Its name: a number that no version of the application had before. Not active yet."""
        with self.change() as change:
            self._must_exist(change, tenant, name)
            ((number,),) = change.run(
                "UPDATE applications SET next_version = next_version + 1 WHERE tenant = ? AND name = ? "
                "RETURNING next_version - 1",
                *(tenant, name),
            ).fetchall()
            row = (tenant, name, number, version.digest, version.interface, version.size, version.kind)
            log = version.log[:_MAX_LOG]
            change.run("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row, log, time.time())
            for one in version.assets:
                values = (tenant, name, number, one.path, one.digest, one.size, one.content_type)
                change.run("INSERT INTO assets VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
            self._note(change, tenant, name, f"version {number} from {version.kind}")
        return str(number)

    def activate(self, tenant: str, name: str, shares: Sequence[tuple[str, int]], *, sticky: str | None = None) -> None:
        """Let these versions answer, by their weights. Absent: one of them."""
        with self.change() as change:
            self._must_exist(change, tenant, name)
            numbers = [(self._number(change, tenant, name, version), weight) for version, weight in shares]
            change.run(
                "UPDATE applications SET previous = CASE WHEN shares = ?1 THEN previous ELSE shares END, "
                "shares = ?1, sticky = coalesce(?2, sticky) WHERE tenant = ?3 AND name = ?4",
                *(json.dumps(numbers), sticky, tenant, name),
            )
            self._note(change, tenant, name, "active: " + ", ".join(f"{one} ({weight})" for one, weight in numbers))

    def previous(self, tenant: str, name: str) -> list[tuple[str, int]]:
        """The shares that were active before those of now. Absent: the application, or there were none."""
        row = self.row("SELECT previous FROM applications WHERE tenant = ? AND name = ?", tenant, name)
        if row is None:
            raise Absent(f"there is no application {tenant}/{name}")
        shares = [(str(version), weight) for version, weight in json.loads(row[0])]
        if not shares:
            raise Absent(f"{tenant}/{name} had no other version before")
        return shares

    def delete_version(self, tenant: str, name: str, version: str) -> None:
        """Taken: it is active."""
        with self.change() as change:
            number = self._number(change, tenant, name, version)
            ((shares, previous),) = change.run(
                "SELECT shares, previous FROM applications WHERE tenant = ? AND name = ?", tenant, name
            ).fetchall()
            if number in [one for one, _ in json.loads(shares)]:
                raise Taken(f"version {version} of {tenant}/{name} is active")
            if number in [one for one, _ in json.loads(previous)]:
                change.run("UPDATE applications SET previous = '[]' WHERE tenant = ? AND name = ?", tenant, name)
            change.run("DELETE FROM versions WHERE tenant = ? AND application = ? AND number = ?", tenant, name, number)
            self._note(change, tenant, name, f"version {version} deleted")

    def is_active(self, tenant: str, name: str, version: NewVersion) -> bool:
        """Whether all requests go to one that has the same module and the same assets."""
        with self.change() as change:
            row = change.run("SELECT shares FROM applications WHERE tenant = ? AND name = ?", tenant, name).fetchone()
            shares = json.loads(row[0]) if row is not None else []
            if len(shares) != 1:
                return False
            key = (tenant, name, shares[0][0])
            where = "WHERE tenant = ? AND application = ? AND number = ?"
            digests = change.run(f"SELECT digest FROM versions {where}", *key).fetchall()
            assets = change.run(f"SELECT path, digest FROM assets {where}", *key).fetchall()
        return digests == [(version.digest,)] and dict(assets) == {one.path: one.digest for one in version.assets}

    @staticmethod
    def _number(change: Change, tenant: str, name: str, version: str) -> int:
        number = int(version) if version.isascii() and version.isdecimal() and len(version) < 19 else -1
        row = change.run(
            "SELECT 1 FROM versions WHERE tenant = ? AND application = ? AND number = ?", tenant, name, number
        ).fetchone()
        if row is None:
            raise Absent(f"{tenant}/{name} has no version {version!r}")
        return number

    def deployment(self, tenant: str, name: str, version: str) -> Deployment:
        """NotDeployed. SealBroken: the secrets are another key's."""
        key = (tenant, name)
        with self.reading() as database:
            row = database.execute(
                "SELECT v.digest, v.interface, a.settings, a.generation, t.settings, v.number FROM versions v "
                "JOIN applications a ON a.tenant = v.tenant AND a.name = v.application "
                "JOIN tenants t ON t.name = v.tenant WHERE v.tenant = ? AND v.application = ? AND v.number = ?",
                (*key, version),
            ).fetchone()
            if row is None:
                raise NotDeployed(f"{tenant}/{name} has no version {version!r}")
            where = " WHERE tenant = ? AND application = ?"
            texts = database.execute("SELECT store, key, value FROM configuration" + where, key).fetchall()
            sealed = database.execute("SELECT store, key, sealed FROM secrets" + where, key).fetchall()
            assets = database.execute(
                "SELECT path, digest, size, content_type FROM assets" + where + " AND number = ?", (*key, row[5])
            ).fetchall()
        settings = app_settings_of(json.loads(row[2]))
        secrets: dict[str, dict[str, bytes]] = defaultdict(dict)
        for store, one, data in sealed:
            secrets[store][one] = self._sealing().open(data, _place(tenant, name, store, one))
        configuration: dict[str, dict[str, str]] = defaultdict(dict)
        for store, one, value in texts:
            configuration[store][one] = value
        return Deployment(
            tenant=tenant,
            application=name,
            version=version,
            generation=row[3],
            digest=row[0],
            interface=row[1],
            limits=_replaced(_replaced(self.defaults, json.loads(row[4])), settings.limits),
            configuration=dict(configuration),
            secrets=dict(secrets),
            backends=settings.backends,
            allowed_outbound_hosts=settings.allowed_outbound_hosts,
            filters=settings.filters,
            assets={
                path: Asset(file=self.files.path(digest), size=size, content_type=content_type, digest=digest)
                for path, digest, size, content_type in assets
            },
            health=settings.health,
            development=settings.development,
        )

    # Configuration and secrets

    def configuration(self, tenant: str, name: str) -> dict[str, dict[str, str]]:
        """By store and key. Absent."""
        self.settings(tenant, name)
        found: dict[str, dict[str, str]] = defaultdict(dict)
        statement = "SELECT store, key, value FROM configuration WHERE tenant = ? AND application = ?"
        for store, key, value in self.rows(statement, tenant, name):
            found[store][key] = value
        return dict(found)

    def put_configuration(self, tenant: str, name: str, store: str, values: Mapping[str, str | None]) -> None:
        """None removes a key."""
        self._put_values("configuration", tenant, name, store, values)

    def secrets(self, tenant: str, name: str) -> dict[str, list[str]]:
        """The keys by their store: values are for the guest only. Absent."""
        self.settings(tenant, name)
        found = defaultdict(list)
        statement = "SELECT store, key FROM secrets WHERE tenant = ? AND application = ?"
        for store, key in self.rows(statement, tenant, name):
            found[store].append(key)
        return dict(found)

    def put_secrets(self, tenant: str, name: str, store: str, values: Mapping[str, bytes | None]) -> None:
        """None removes a key."""
        seal = self._sealing()
        sealed = {
            key: None if value is None else seal.seal(value, _place(tenant, name, store, key))
            for key, value in values.items()
        }
        self._put_values("secrets", tenant, name, store, sealed)

    def _put_values(
        self, table: str, tenant: str, name: str, store: str, values: Mapping[str, str | bytes | None]
    ) -> None:
        with self.change() as change:
            self._must_exist(change, tenant, name)
            for key, value in values.items():
                place = (tenant, name, store, key)
                if value is None:
                    where = "tenant = ? AND application = ? AND store = ? AND key = ?"
                    change.run(f"DELETE FROM {table} WHERE {where}", *place)
                else:
                    change.run(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)", *place, value)
            self._note(change, tenant, name, f"{table}: {', '.join(values)}")

    def _sealing(self) -> Seal:
        with self._writing:
            if self._seal is None:
                self._seal = open_seal(self.directory)
            return self._seal

    # Artifacts

    def artifact(self, digest: str, level: str, compiler: str) -> str | None:
        """The digest of what that compiler made of the module."""
        statement = "SELECT artifact FROM artifacts WHERE digest = ? AND options = ? AND compiler = ?"
        row = self.row(statement, digest, level, compiler)
        return None if row is None else str(row[0])

    def put_artifact(self, digest: str, level: str, compiler: str, artifact: str, *, better: bool = False) -> None:
        """Instead of the one of another compiler. better: the applications that use it are to take it now."""
        with self.change() as change:
            change.run("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?)", digest, level, compiler, artifact)
            if better:
                where = "EXISTS (SELECT 1 FROM versions v WHERE v.tenant = applications.tenant "
                where += "AND v.application = applications.name AND v.digest = ?)"
                self._touch(change, where, digest)

    @contextmanager
    def holding(self, *digests: str) -> Iterator[None]:
        """While files are there that no row names yet: they are no garbage."""
        with self._writing:
            for one in digests:
                self._held[one] += 1
        try:
            yield
        finally:
            with self._writing:
                for one in digests:
                    self._held[one] -= 1
                    if not self._held[one]:
                        del self._held[one]

    def collect_garbage(self) -> int:
        """Remove artifacts of modules that no version has, and files that no row names. How many files."""
        with self._writing:
            with self.change() as change:
                unused = "SELECT digest FROM artifacts WHERE digest NOT IN (SELECT digest FROM versions)"
                for (digest,) in change.run(unused).fetchall():
                    if digest not in self._held:
                        change.run("DELETE FROM artifacts WHERE digest = ?", digest)
                change.run(f"DELETE FROM events WHERE rowid <= (SELECT max(rowid) FROM events) - {_MAX_EVENTS}")
            removed = 0
            for blobs, named in (
                (self.modules, "SELECT DISTINCT digest FROM versions"),
                (self.artifacts, "SELECT artifact FROM artifacts"),
                (self.files, "SELECT DISTINCT digest FROM assets"),
            ):
                used = {digest for (digest,) in self.rows(named)} | set(self._held)
                for digest in blobs.all():
                    if digest not in used:
                        blobs.remove(digest)
                        removed += 1
        return removed

    # History

    def events(self, tenant: str, name: str, limit: int = 100) -> list[tuple[float, str]]:
        """What was done to the application, newest first."""
        statement = "SELECT at, what FROM events WHERE tenant = ? AND application = ? ORDER BY rowid DESC LIMIT ?"
        return [(at, what) for at, what in self.rows(statement, tenant, name, limit)]

    # Inside

    @staticmethod
    def _must_exist(change: Change, tenant: str, name: str) -> None:
        if change.run("SELECT 1 FROM applications WHERE tenant = ? AND name = ?", tenant, name).fetchone() is None:
            raise Absent(f"there is no application {tenant}/{name}")

    @staticmethod
    def _note(change: Change, tenant: str, name: str, what: str) -> None:
        change.run("INSERT INTO events VALUES (?, ?, ?, ?)", time.time(), tenant, name, what)
        change.keys.add((tenant, name))

    @staticmethod
    def _touch(change: Change, where: str, *values: str) -> None:
        change.keys.update(change.run(f"SELECT tenant, name FROM applications WHERE {where}", *values).fetchall())


def _place(tenant: str, name: str, store: str, key: str) -> str:
    """Of a secret: what it is sealed for."""
    return "\0".join(("secret", tenant, name, store, key))


def _replaced(limits: Limits, changes: Mapping[str, int | float]) -> Limits:
    if not changes:
        return limits
    return read(Limits, {**to_json(limits), **changes})
