"""The catalogue of a store: snapshots of its rows, and code from its files, made anew where that is damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from lucet.errors import ArtifactError
from lucet.runtime import Module
from lucet.terrarium.blobs import Damaged
from lucet.terrarium.catalogue import AppKey, Catalogue, Deployment, Listener, NotDeployed, Snapshot
from lucet.terrarium.database import StoreFailed

if TYPE_CHECKING:
    from lucet.terrarium.compiling import Compiler
    from lucet.terrarium.store import Store

LEVELS: Final = ("default", "fast")
"""Of artifacts, the best first."""
_LOOK: Final = 1.0
"""Seconds between two looks whether another process has changed something, or an application's time is over."""


class StoredCatalogue(Catalogue):
    """To be made in the event loop's thread, where listeners are called."""

    def __init__(self, store: Store, compiler: Compiler) -> None:
        self.store = store
        self.compiler = compiler
        self._loop = asyncio.get_running_loop()
        self._version = compiler.version()
        self._applications = store.applications()
        self._snapshot = Snapshot(revision=store.revision(), applications=self._applications)
        self._listeners: list[Listener] = []
        self._modules: WeakValueDictionary[str, Module] = WeakValueDictionary()
        self._loading: dict[str, asyncio.Task[Module]] = {}
        self._elsewhere = store.changed_elsewhere()
        store.on_change = self._changed
        self._looking = self._loop.call_later(_LOOK, self._look)

    def close(self) -> None:
        self._looking.cancel()
        for task in self._loading.values():
            task.cancel()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _changed(self, keys: frozenset[AppKey]) -> None:
        """In the thread of who changed it."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._take(keys)
        else:
            self._loop.call_soon_threadsafe(self._take, keys)

    def _take(self, keys: Iterable[AppKey]) -> None:
        keys = frozenset(keys)
        applications = {key: one for key, one in self._applications.items() if key not in keys}
        applications.update(self.store.applications(keys))
        self._applications = applications
        self._snapshot = Snapshot(revision=self.store.revision(), applications=applications)
        for listener in tuple(self._listeners):
            listener(self._snapshot, keys)

    def _look(self) -> None:
        self._looking = self._loop.call_later(_LOOK, self._look)
        with suppress(StoreFailed):  # a full disk, say: there is another look soon
            self._see()

    def _see(self) -> None:
        self.store.delete_expired()
        now = self.store.changed_elsewhere()
        if now != self._elsewhere:
            fresh = self.store.applications()
            old = self._applications
            differ = {key for key in fresh.keys() | old.keys() if fresh.get(key) != old.get(key)}
            if differ:
                self._take(differ)
            self._elsewhere = now

    def deployment(self, tenant: str, application: str, version: str) -> Deployment:
        return self.store.deployment(tenant, application, version)

    async def load(self, digest: str) -> Module:
        found = self._modules.get(digest)
        if found is not None:
            return found
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = self._loop.create_task(self._load(digest))
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    def forget(self, digest: str) -> None:
        """There is better code for it: those who load it next get that."""
        self._modules.pop(digest, None)

    async def _load(self, digest: str) -> Module:
        module = None
        for level in LEVELS:
            artifact = self.store.artifact(digest, level, self._version)
            if artifact is not None:
                with suppress(Damaged, ArtifactError):
                    module = Module.load(await asyncio.to_thread(self.store.artifacts.intact, artifact))
                    break
        if module is None:
            module = await self._compile(digest)
        self._modules[digest] = module
        return module

    async def _compile(self, digest: str) -> Module:
        try:
            wasm = await asyncio.to_thread(self.store.modules.get, digest)
        except Damaged as error:
            raise NotDeployed(f"the module is lost: {error}") from error
        compiled = await self.compiler.compile(wasm)
        await self.keep(digest, LEVELS[-1], compiled.artifact)
        return Module.from_bytes(compiled.artifact)

    async def keep(self, digest: str, level: str, artifact: bytes, *, better: bool = False) -> None:
        """better: whoever serves the module is to take it now."""
        name = await asyncio.to_thread(self.store.artifacts.put, artifact)
        if better:
            self.forget(digest)
        await asyncio.to_thread(self.store.put_artifact, digest, level, self._version, name, better=better)
