"""Deploying: what is uploaded is built, compiled, stored, warmed, and then answers; one step after the other.

Builds queue, each tenant in a queue of its own, and the queues take turns. What is acknowledged is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from lucet.errors import LucetError
from lucet.terrarium.catalogue import Deployment, Operations, Route
from lucet.terrarium.compiling import BuildFailed, Compiled, Compiler
from lucet.terrarium.config import Build
from lucet.terrarium.sources import ASSETS
from lucet.terrarium.store import NewAsset, NewVersion, Store
from lucet.terrarium.stored import LEVELS, StoredCatalogue

if TYPE_CHECKING:
    from lucet.terrarium.settings import AppSettings

KINDS: Final = ("wasm", "text", "c", "rust", "assemblyscript")
_KEPT: Final = 1000
"""Jobs that are over and can still be asked for."""

UPLOADED: Final = "Upload complete, waiting for build..."
BUILDING: Final = "Building..."
GENERATING: Final = "Generating machine code..."
GENERATED: Final = "Codegen complete..."
DEPLOYING: Final = "Deploying..."
_CLOSING: Final = "the server is shutting down"


class QueueFull(LucetError):
    """As many builds of the tenant wait as may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """A kind of source, and whether this server can build it."""

    kind: str
    title: str
    available: bool
    missing: str = ""
    """What is to be installed for it."""


class Toolchain(Protocol):
    """Builds sources where they can do no harm."""

    def languages(self) -> list[Language]: ...

    async def build(self, kind: str, files: Mapping[str, bytes], say: Callable[[str], None]) -> bytes:
        """A .wasm. What a compiler says is said. BuildFailed."""


class NoToolchain:
    """For modules and their text only."""

    def languages(self) -> list[Language]:
        return [*COMPILED, *(Language(kind=kind, title=kind, available=False) for kind in KINDS[len(COMPILED) :])]

    async def build(self, kind: str, files: Mapping[str, bytes], say: Callable[[str], None]) -> bytes:
        raise BuildFailed(f"this server does not build {kind}")


COMPILED: Final = (
    Language(kind="wasm", title="WebAssembly", available=True),
    Language(kind="text", title="WebAssembly text", available=True),
)
"""What needs no toolchain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """What is to be deployed. files: by path; those in assets/ are served in front of the guest."""

    tenant: str
    application: str
    kind: str
    """Of KINDS."""
    files: Mapping[str, bytes]
    settings: AppSettings | None = None
    routes: tuple[Route, ...] | None = None
    new: bool = False
    """Refuse if there is such an application already."""
    expires: float | None = None
    activate: bool = True
    """Else the version is made and warm, and answers nothing yet."""
    only_if_changed: bool = False
    """Nothing is to be done if the version that answers is the same."""
    health: str | None = None
    """A path whose answer decides whether the version is activated."""


@dataclass(kw_only=True, slots=True)
class Job:
    """One deployment on its way."""

    id: str
    upload: Upload | None
    """None when it is over: it may be large."""
    tenant: str
    application: str
    status: str = UPLOADED
    log: str = ""
    version: str | None = None
    done: bool = False
    success: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set and replaced at each change."""


class Deployer:
    """In the event loop's thread. operations: the running server, for warming."""

    def __init__(
        self,
        store: Store,
        catalogue: StoredCatalogue,
        compiler: Compiler,
        toolchain: Toolchain,
        operations: Operations,
        limits: Build | None = None,
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.compiler = compiler
        self.toolchain = toolchain
        self.operations = operations
        self.limits = limits or Build()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queues: dict[str, deque[Job]] = {}
        self._turns: deque[str] = deque()
        """Tenants whose jobs wait."""
        self._running: dict[str, asyncio.Task[None]] = {}
        """By tenant: each has one at a time."""
        self._better: asyncio.Task[None] | None = None
        self._to_optimise: OrderedDict[str, None] = OrderedDict()
        self._closing = False

    async def close(self) -> None:
        """End what runs, and begin nothing of what waits."""
        self._closing = True
        for queue in self._queues.values():
            for job in queue:
                self._tell(job, status=_CLOSING)
        tasks = [*self._running.values(), *([self._better] if self._better else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def submit(self, upload: Upload) -> Job:
        """QueueFull."""
        queue = self._queues.setdefault(upload.tenant, deque())
        if len(queue) >= self.limits.queue:
            raise QueueFull(f"{len(queue)} builds of {upload.tenant} wait already")
        job = Job(id=secrets.token_hex(8), upload=upload, tenant=upload.tenant, application=upload.application)
        self._jobs[job.id] = job
        for old in list(self._jobs.values())[: max(0, len(self._jobs) - _KEPT)]:
            if old.done:
                del self._jobs[old.id]
        queue.append(job)
        if upload.tenant not in self._turns:
            self._turns.append(upload.tenant)
        self._next()
        return job

    def job(self, id_: str) -> Job | None:
        return self._jobs.get(id_)

    def _next(self) -> None:
        for _ in range(len(self._turns)):
            if len(self._running) >= self.limits.concurrency:
                return
            tenant = self._turns.popleft()
            if tenant in self._running:
                self._turns.append(tenant)
                continue
            queue = self._queues[tenant]
            job = queue.popleft()
            if queue:
                self._turns.append(tenant)
            else:
                del self._queues[tenant]
            task = self._running[tenant] = asyncio.create_task(self._run(job))
            task.add_done_callback(lambda _, tenant=tenant: self._over(tenant))  # type: ignore[misc]

    def _over(self, tenant: str) -> None:
        del self._running[tenant]
        if self._closing:
            return
        self._next()
        if not self._running:
            self._optimise()

    async def _run(self, job: Job) -> None:
        upload = job.upload
        assert upload is not None
        try:
            await self._deploy(job, upload)
            job.success = True
        except LucetError as error:
            self._tell(job, status=str(error).partition("\n")[0][:500])
            self._say(job, str(error))
        except OSError as error:
            self._tell(job, status=f"the server's disk: {error.strerror}")
        except asyncio.CancelledError:
            self._tell(job, status=_CLOSING)
            raise
        except Exception as error:
            self._tell(job, status=f"the server failed: {type(error).__name__}")
            raise
        finally:
            job.upload = None
            job.done = True
            self._tell(job)

    async def _deploy(self, job: Job, upload: Upload) -> None:
        self._tell(job, status=BUILDING)
        code, assets = parted(upload.files)
        module = await self._build(job, upload, code)
        self._tell(job, status=GENERATING)
        named = next(iter(code)) if upload.kind in ("wasm", "text") else "the module"
        compiled = await self.compiler.compile(module, name=named)
        self._tell(job, status=GENERATED)
        version = await self._keep(upload, compiled, assets, job.log)
        self._tell(job, status=DEPLOYING)
        job.version = version
        if version is None:  # it answers already
            return
        try:
            deployment = self.store.deployment(upload.tenant, upload.application, version)
            await self._warm(deployment, upload.health)
        except BuildFailed:
            await asyncio.to_thread(self.store.delete_version, upload.tenant, upload.application, version)
            job.version = None
            raise
        if upload.activate:
            shares = [(version, 1)]
            await asyncio.to_thread(self.activate, upload.tenant, upload.application, shares)
        if self.limits.optimise:
            self._to_optimise[compiled.digest] = None

    async def _build(self, job: Job, upload: Upload, code: Mapping[str, bytes]) -> bytes:
        if upload.kind in ("wasm", "text"):
            if len(code) != 1:
                raise BuildFailed(f"one file is expected, not {', '.join(sorted(code)) or 'none'}")
            return next(iter(code.values()))
        return await self.toolchain.build(upload.kind, code, lambda text: self._say(job, text))

    async def _keep(self, upload: Upload, compiled: Compiled, assets: Mapping[str, bytes], log: str) -> str | None:
        """Store the version, its files before the rows that name them. None if only_if_changed, and it is not."""
        store = self.store
        digest = compiled.digest
        with store.holding(digest):
            await asyncio.to_thread(store.modules.put, compiled.wasm)
            await self.catalogue.keep(digest, LEVELS[-1], compiled.artifact)
            new_assets = []
            for path, data in assets.items():
                kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
                name = await asyncio.to_thread(store.files.put, data)
                new_assets.append(NewAsset(path=path, digest=name, size=len(data), content_type=kind))
            new = NewVersion(
                digest=digest,
                interface=compiled.interface,
                size=len(compiled.wasm),
                kind=upload.kind,
                log=log,
                assets=new_assets,
            )
            return await asyncio.to_thread(self._keep_rows, upload, new)

    def _keep_rows(self, upload: Upload, version: NewVersion) -> str | None:
        """In one transaction, and not in the event loop's thread, which would wait for the disk."""
        store = self.store
        with store.change():
            store.put_tenant(upload.tenant)
            store.put_application(
                upload.tenant,
                upload.application,
                settings=upload.settings,
                routes=upload.routes,
                expires=upload.expires,
                new=upload.new,
            )
            if upload.only_if_changed and store.is_active(upload.tenant, upload.application, version):
                return None
            return store.add_version(upload.tenant, upload.application, version)

    async def _warm(self, deployment: Deployment, health: str | None) -> None:
        try:
            async with asyncio.timeout(deployment.limits.wall_time + 30):
                await self.operations.warm(deployment, health)
        except TimeoutError:
            raise BuildFailed("the first instance did not answer in time") from None
        except Exception as error:  # whatever the guest has done
            raise BuildFailed(f"the version cannot answer: {error}") from error

    def activate(self, tenant: str, application: str, shares: list[tuple[str, int]], sticky: str | None = None) -> None:
        """Let these versions answer what comes from now on. Absent."""
        self.store.activate(tenant, application, shares, sticky=sticky)

    def roll_back(self, tenant: str, application: str) -> list[tuple[str, int]]:
        """To what was active before; a second time: forward again. Absent."""
        shares = self.store.previous(tenant, application)
        self.store.activate(tenant, application, shares)
        return shares

    async def drain(self, tenant: str, application: str, version: str, patience: float = 60.0) -> int:
        """Wait until a version that is not active answers nothing any more. How many requests it still has."""
        end = time.monotonic() + patience
        while (left := self.operations.in_flight(tenant, application, version)) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return left

    # Better code, when there is time.

    def _optimise(self) -> None:
        if self._better is None and self._to_optimise:
            self._better = asyncio.create_task(self._compile_better())
            self._better.add_done_callback(self._optimised)

    def _optimised(self, task: asyncio.Task[None]) -> None:
        self._better = None
        if not self._closing and not task.cancelled() and task.exception() is None:
            self._optimise()

    async def _compile_better(self) -> None:
        digest, _ = self._to_optimise.popitem(last=False)
        with self.store.holding(digest), contextlib.suppress(LucetError, OSError):  # what there is answers as well
            wasm = await asyncio.to_thread(self.store.modules.get, digest)
            compiled = await self.compiler.compile(wasm, LEVELS[0])
            await self.catalogue.keep(digest, LEVELS[0], compiled.artifact, better=True)

    # What is seen of a job.

    def _say(self, job: Job, text: str) -> None:
        room = self.limits.log - len(job.log)
        if room > 0:
            job.log += text[:room] + ("" if text.endswith("\n") else "\n")
        self._tell(job)

    @staticmethod
    def _tell(job: Job, *, status: str | None = None) -> None:
        if status is not None:
            job.status = status
        changed, job.changed = job.changed, asyncio.Event()
        changed.set()


def parted(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Code, and assets by the path that they are served under."""
    code = {path: data for path, data in files.items() if not path.startswith(ASSETS)}
    assets = {"/" + path.removeprefix(ASSETS): data for path, data in files.items() if path.startswith(ASSETS)}
    return code, assets
