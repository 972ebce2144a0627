"""One request at a Compute guest: the handles that the guest has, and what stands behind them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import InstanceError
from lucet.terrarium.compute_body import Content, Inflated, Item, Refused, Store
from lucet.terrarium.compute_table import Status
from lucet.terrarium.interface import GuestError, Visit
from lucet.terrarium.wasi import LogOutput, guest_context, waiting_imports
from lucet.wasi.memory import NoMemory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from lucet.runtime import Instance
    from lucet.terrarium.compute import Compute
    from lucet.terrarium.http import Exchange, Headers, Outgoing, OutgoingResponse
    from lucet.terrarium.record import Record
    from lucet.wasi import WasiContext

MAX_HANDLES: Final = 10_000
"""That a guest has open at once."""
MAX_DYNAMIC_BACKENDS: Final = 200
MAX_STORE_REQUESTS: Final = 8
"""Of a guest at once, of those that do not come at once; others wait."""
PER_HEADER: Final = 32
"""Bytes that a header counts besides its own, so that there are not too many small ones."""
FIRST_HANDLE: Final = 1

_VERSIONS: Final = {"0.9": 0, "1.0": 1, "1.1": 2, "2": 3, "2.0": 3, "3": 4, "3.0": 4}


class Request(Item):
    """A request's head: the client's, or one that the guest makes."""

    __slots__ = ("decompress", "headers", "method", "size", "uri", "version")

    def __init__(self, method: str = "GET", uri: bytes = b"/", version: int = 2) -> None:
        super().__init__()
        self.method = method
        self.uri = uri
        self.version = version
        self.headers: Headers = []
        self.size: int | None = 0
        """Of the headers, None if it is not known yet; held, for what the guest has added to them."""
        self.decompress = False


class Response(Item):
    """A response's head: the guest's, or one that a backend gave."""

    __slots__ = ("headers", "size", "status", "version")

    def __init__(self, status: int = 200, version: int = 2) -> None:
        super().__init__()
        self.status = status
        self.version = version
        self.headers: Headers = []
        self.size: int | None = 0


class ComputeVisit(Visit):
    """What the host functions find as their caller's context."""

    __slots__ = (
        "_handle",
        "_outgoing",
        "_store_turns",
        "_wasi",
        "compute",
        "downstream",
        "dynamic",
        "handles",
        "kept",
        "memory",
        "output",
        "pump",
        "sent",
        "store",
        "tasks",
    )

    memory: Any
    """The guest's: Memory, SharedMemory, or NoMemory."""

    def __init__(self, compute: Compute, exchange: Exchange, record: Record) -> None:
        super().__init__(exchange, record)
        self.compute = compute
        self.handles: dict[int, Item] = {}
        self._handle = FIRST_HANDLE
        self.store = Store(compute.environment.limits.response_body)
        self.downstream: tuple[int, int] | None = None
        """The handles of the client's request and of its body, once the guest has asked for them."""
        self.kept = 0
        """Of the store, for what no handle stands for."""
        self.sent = False
        """Whether the guest has given its response."""
        self.pump: asyncio.Future[None] | None = None
        """Sends a response whose body arrives while the guest goes on."""
        self.tasks: set[asyncio.Future[Any]] = set()
        self.dynamic: dict[str, tuple[str, str]] = {}
        """Backends that the guest has made: base URL, and the Host to send or ""."""
        self._outgoing: Outgoing | None = None
        self._store_turns: asyncio.Semaphore | None = None
        self._wasi: tuple[WasiContext, Mapping[str, Any]] | None = None
        self.output: list[LogOutput] = []

    def new_instance(self) -> Instance:
        environment = self.compute.environment
        instance = environment.region.new_instance(
            self.compute.linkage, memory_limit=environment.limits.memory, start=False
        )
        try:
            self.memory = instance.memory
        except InstanceError:
            self.memory = NoMemory()
        return instance

    # ---- handles ----

    def add(self, item: Item) -> int:
        """A new handle. Refused if there are too many."""
        if len(self.handles) >= MAX_HANDLES:
            raise Refused(Status.LIMITEXCEEDED)
        number = item.handle = self._handle
        self._handle += 1
        self.handles[number] = item
        return number

    def forget(self, item: Item) -> None:
        """Its handle is used up."""
        self.handles.pop(item.handle, None)

    def keep(self, size: int) -> None:
        """Hold so much until the request ends. Refused."""
        self.store.hold(size)
        self.kept += size

    def request_of(self, handle: int) -> Request:
        """Refused."""
        found = self.handles.get(handle)
        if not isinstance(found, Request):
            raise Refused(Status.BADF)
        return found

    def body_of(self, data: bytes) -> Content:
        content = Content(self.store)
        content.add(data)
        return content

    def start(self, work: Awaitable[Any], held: int = 0) -> asyncio.Future[Any]:
        """Work that goes on while the guest does, and ends with the request at the latest.

        held: of the store, until it ends.
        """
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        if held:
            task.add_done_callback(lambda _: self.store.give_back(held))
        return task

    def _done(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()

    @property
    def store_turns(self) -> asyncio.Semaphore:
        """For what is asked of key-value stores and comes later: it is not known yet how large it is."""
        if self._store_turns is None:
            self._store_turns = asyncio.Semaphore(MAX_STORE_REQUESTS)
        return self._store_turns

    # ---- outgoing ----

    @property
    def outgoing(self) -> Outgoing:
        if self._outgoing is None:
            self._outgoing = self.compute.environment.outgoing()
        return self._outgoing

    def response_of(self, response: OutgoingResponse, *, decompress: bool) -> tuple[Response, Content]:
        """What a backend gave, as the guest has it."""
        head = Response(response.status, version_number(response.version))
        body = response.body
        headers = response.headers
        if decompress and any(n == b"content-encoding" and v.strip().lower() == b"gzip" for n, v in headers):
            headers = [h for h in headers if h[0] not in {b"content-encoding", b"content-length"}]
            body = Inflated(body)
        head.headers = [*headers]
        head.size = None
        return head, Content(self.store, body)

    # ---- WASI ----

    def wasi(self) -> tuple[WasiContext, Mapping[str, Any]]:
        """The instance's own context and its calls, made at the first call that needs it."""
        if self._wasi is None:
            self.output = [LogOutput(self.record), LogOutput(self.record)]
            context = guest_context(self.output)
            self._wasi = context, waiting_imports(context)
        return self._wasi

    def environ(self) -> tuple[bytes, ...]:
        """The guest's environment variables."""
        return (*self.compute.variables, f"FASTLY_TRACE_ID={self.exchange.request.id}\0".encode())

    def tell_unsupported(self, name: str) -> None:
        """Once for each version of the application."""
        if name not in self.compute.told:
            self.compute.told.add(name)
            self.record.log(f"{name} is not supported here")

    # ---- the end ----

    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        self._flush()
        if status:
            raise GuestError(f"exit status {status}")
        if not self.sent:
            self.exchange.respond(200, [])
        if self.pump is None:
            return None
        if not self.pump.done():
            return self._finish()
        self.pump.result()
        return None

    async def _finish(self) -> None:
        assert self.pump is not None
        await asyncio.shield(self.pump)

    def _flush(self) -> None:
        for output in self.output:
            output.flush()

    def close(self) -> None:
        self._flush()
        for task in self.tasks:
            task.cancel()
        for item in self.handles.values():
            item.release(self.store)
        self.handles.clear()
        if self._wasi is not None:
            self._wasi[0].close()
        if self._outgoing is not None:
            self.compute.close_later(self._outgoing)


def headers_size(headers: Headers) -> int:
    return sum(len(name) + len(value) + PER_HEADER for name, value in headers)


def version_number(version: str) -> int:
    """`http_version`."""
    return _VERSIONS.get(version, 2)
