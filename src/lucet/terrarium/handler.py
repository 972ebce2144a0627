"""http-wasm's handlers, as filters in front of applications and as applications (docs/terrarium-filters.md).

A handler's instance lives from its handle_request to its handle_response. filters.py runs it; here is what it is, and
what the host functions (handler_calls.py) find.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lucet.errors import LinkError
from lucet.runtime import FuncType
from lucet.terrarium.handler_body import BUFFER_REQUEST, Reading
from lucet.terrarium.handler_calls import FUNCTIONS, MODULE
from lucet.terrarium.http import BytesBody, Request
from lucet.terrarium.interface import GuestError, Interface, Visit
from lucet.terrarium.programs import MODULES, BodyInput, World, Worlds
from lucet.terrarium.wasi import LogOutput
from lucet.wasm.types import I32, I64

if TYPE_CHECKING:
    from lucet.runtime import Instance, Module
    from lucet.terrarium.environment import Environment
    from lucet.terrarium.http import Body, Exchange, Headers
    from lucet.terrarium.record import Record

HANDLE_REQUEST: Final = "handle_request"
HANDLE_RESPONSE: Final = "handle_response"
_TYPES: Final = {
    HANDLE_REQUEST: FuncType((), (I64,)),
    HANDLE_RESPONSE: FuncType((I32, I32), ()),
}
_BEGINNINGS: Final = ("_initialize", "_start")


class Handler(Interface):
    """Modules that import http_handler, or export its two functions.

    Of the environment's configuration, "" with the name "" is what the guest gets from get_config.
    """

    name: ClassVar[str] = "http-handler"
    entry: ClassVar[str] = HANDLE_REQUEST
    whole_body: ClassVar[bool] = False
    answers_itself: ClassVar[bool] = True

    def __init__(self, module: Module, environment: Environment) -> None:
        super().__init__(module, environment)
        exports = {one.name: one.type for one in module.exports}
        for name, expected in _TYPES.items():
            if exports.get(name) != expected:
                raise LinkError(f"a handler exports {name} as {expected}; here it is {exports.get(name)}")
        self.beginnings = (*self.steps[:-1], *[name for name in _BEGINNINGS if name in exports][:1])
        """What is run before the first of its functions."""
        self.configuration = environment.configuration.get("", {}).get("", "").encode(errors="surrogateescape")
        self.worlds: Worlds | None = None
        functions = {MODULE: FUNCTIONS}
        if any(one.module in MODULES for one in module.imports):
            self.worlds = Worlds(module, environment.region, functions)
        else:
            self.linkage = environment.region.link(module, functions)

    @staticmethod
    def speaks(imports: frozenset[tuple[str, str]], exports: frozenset[str]) -> bool:
        return any(module == MODULE for module, _ in imports) or exports >= _TYPES.keys()

    def visit(self, exchange: Exchange, record: Record) -> HandlerVisit:
        return HandlerVisit(self, exchange, record)

    def answer(self, exchange: Exchange, record: Record) -> Coroutine[Any, Any, None] | None:
        from lucet.terrarium import filters

        return filters.answer((self,), None, exchange, record)


class HandlerVisit(Visit):
    """One request at a handler: what it may read and write of it."""

    __slots__ = (
        "_log",
        "_own",
        "_world",
        "after_next",
        "body_written",
        "features",
        "handler",
        "header_bytes",
        "headers",
        "reading",
        "request",
        "request_written",
        "response_body",
        "status",
        "written",
    )

    def __init__(self, handler: Handler, exchange: Exchange, record: Record) -> None:
        super().__init__(exchange, record)
        self.handler = handler
        self.features = 0
        self.after_next = False
        """Whether the request was passed on."""
        self.request = exchange.request
        self._own = False
        self.reading: Reading | None = None
        """Of the request's body, once the guest has begun to."""
        self.request_written: list[bytes] | None = None
        self.status = 200
        self.headers: Headers = []
        """Of the response. Before the request is passed on, those that are added to whatever comes."""
        self.header_bytes = 0
        """Of names and values that the guest has given."""
        self.response_body: Reading | None = None
        """Of the next handler, if it is buffered."""
        self.body_written: list[bytes] | None = None
        self.written = 0
        """Bytes of the bodies that the guest has written."""
        self._world: World | None = None
        self._log: tuple[LogOutput, ...] = ()

    def new_instance(self) -> Instance:
        handler = self.handler
        environment = handler.environment
        linkage = None
        if handler.worlds is None:
            linkage = handler.linkage
        else:
            self._world = handler.worlds.take()
            self._log = (LogOutput(self.record), LogOutput(self.record))
            self._world.begin(b"handler\0", b"", (BodyInput(BytesBody()), *self._log))
            linkage = self._world.linkage
        return environment.region.new_instance(linkage, memory_limit=environment.limits.memory, start=False)

    def own_request(self) -> Request:
        """The request, to be changed: the one before is the client's, which the log tells of."""
        if not self._own:
            old = self.request
            self._own = True
            self.request = Request(
                method=old.method,
                target=old.target,
                headers=list(old.headers),
                body=old.body,
                host=old.host,
                scheme=old.scheme,
                version=old.version,
                client=old.client,
                server=old.server,
                id=old.id,
                route=old.route,
                traceparent=old.traceparent,
            )
        return self.request

    def pass_on(self) -> None:
        """The guest has returned with next=1: the request has the body that is left, or that it was given."""
        self.after_next = True
        body: Body | None = None
        if self.request_written is not None:
            data = b"".join(self.request_written)
            body = BytesBody(data)
            request = self.own_request()
            headers = [one for one in request.headers if one[0] not in {b"content-length", b"transfer-encoding"}]
            request.headers = [*headers, (b"content-length", b"%d" % len(data))]
        elif self.reading is not None:
            body = self.reading.left(whole=bool(self.features & BUFFER_REQUEST))
        if body is not None:
            self.own_request().body = body

    def answered_with(self, status: int, headers: Headers, body: bytes | None) -> None:
        """What the next handler has answered. body: None if it is not buffered."""
        self.status = status
        names = {name for name, _ in headers}
        self.headers = [*(one for one in self.headers if one[0] not in names), *headers]
        self.body_written = None
        if body is not None:
            self.response_body = Reading(BytesBody(body))

    @property
    def body(self) -> bytes | None:
        """Of the response, if the guest has written one."""
        return None if self.body_written is None else b"".join(self.body_written)

    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        raise GuestError("a handler is run by filters.answer")

    def close(self) -> None:
        if self._world is not None and self.handler.worlds is not None:
            for log in self._log:
                log.flush()
            self.handler.worlds.give_back(self._world)
            self._world = None
