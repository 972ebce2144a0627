"""Any WASI command as an application, by CGI: WAGI's way (docs/terrarium-cgi.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lucet.terrarium import guest
from lucet.terrarium.cgi_response import Head, MalformedOutput, end_of_head, parse_head
from lucet.terrarium.cgi_variables import arguments, places, static_variables, variables
from lucet.terrarium.eager import a_task, eagerly
from lucet.terrarium.guest import LimitReached
from lucet.terrarium.http import BodyTooLarge, BytesBody, ClientGone, Exchange, Request, Rest
from lucet.terrarium.interface import GuestError, Interface, Visit
from lucet.terrarium.programs import MODULES, BodyInput, Output, World, Worlds
from lucet.terrarium.wasi import LogOutput
from lucet.wasi.memfiles import MemoryFiles

if TYPE_CHECKING:
    from lucet.runtime import Instance, Module
    from lucet.terrarium.environment import Environment
    from lucet.terrarium.http import Body
    from lucet.terrarium.record import Record

_ARGUMENTS: Final = "${SCRIPT_NAME} ${ARGS}"
_PIECE: Final = 65536
"""Bytes of a body that are sent at once."""
_LARGE: Final = 1 << 20
"""Bytes of a body of unknown length that a program reads as it arrives."""
_LATEST: Final = 0.02
"""Seconds that a part of a body is kept for others to be sent with it, if the guest goes on writing."""
_MAX_REDIRECTS: Final = 10


class Cgi(Interface):
    """Modules that export _start and import nothing but WASI.

    Of the environment's configuration, "" are variables of the program; "cgi" may have "argv", the words of its
    arguments ("${SCRIPT_NAME} ${ARGS}" if it has none); "files" are texts by path that the program finds under "/".
    """

    name: ClassVar[str] = "cgi"
    whole_body: ClassVar[bool] = False
    answers_itself: ClassVar[bool] = True

    def __init__(self, module: Module, environment: Environment) -> None:
        super().__init__(module, environment)
        configuration = environment.configuration
        files = {path: text.encode(errors="surrogateescape") for path, text in configuration.get("files", {}).items()}
        self.worlds = Worlds(module, environment.region, files=MemoryFiles(files) if files else None)
        self.static_variables = static_variables(configuration.get("", {}))
        self.arguments = configuration.get("cgi", {}).get("argv", _ARGUMENTS)

    @staticmethod
    def speaks(imports: frozenset[tuple[str, str]], exports: frozenset[str]) -> bool:
        return "_start" in exports and all(module in MODULES for module, _ in imports)

    def visit(self, exchange: Exchange, record: Record) -> CgiVisit:
        return CgiVisit(self, exchange, record)

    def answer(self, exchange: Exchange, record: Record) -> Coroutine[Any, Any, None] | None:
        if exchange.request.body.length is None:
            return eagerly(self._answer_unsized(exchange, record))
        return guest.answer(self, exchange, record, is_prepared=True)

    async def _answer_unsized(self, exchange: Exchange, record: Record) -> None:
        """Many programs read as much as CONTENT_LENGTH says: its length is waited for unless it is large."""
        request, limits = exchange.request, self.environment.limits
        whole = request.body.at_once()
        try:
            if whole is None:
                await a_task()
                async with asyncio.timeout(limits.wall_time):
                    request.body = await _measured(request.body)
            else:
                request.body = BytesBody(whole)
        except TimeoutError:
            guest.failed(self, exchange, record, LimitReached("wall_time"))
            return
        except (BodyTooLarge, ClientGone) as error:
            guest.failed(self, exchange, record, error)
            return
        rest = guest.answer(self, exchange, record, is_prepared=True)
        if rest is not None:
            await a_task()
            await rest


async def _measured(body: Body) -> Body:
    """The body as it is there, if it is not large."""
    first = b""
    while len(first) < _LARGE:
        part = await body.read()
        if not part:
            return BytesBody(first)
        first += part
    return Rest(first, body)


class CgiVisit(Visit):
    __slots__ = ("cgi", "log", "response", "world")

    def __init__(self, cgi: Cgi, exchange: Exchange, record: Record) -> None:
        super().__init__(exchange, record)
        self.cgi = cgi
        self.world: World | None = None

    def new_instance(self) -> Instance:
        cgi, request = self.cgi, self.exchange.request
        limits = cgi.environment.limits
        script, info, raw_info = places(request)
        self.response = Response(self.exchange, limits.response_body)
        self.log = LogOutput(self.record)
        self.world = cgi.worlds.take()
        self.world.begin(
            arguments(request, script, cgi.arguments),
            variables(request, script, info, raw_info, cgi.static_variables),
            (BodyInput(request.body), self.response, self.log),
        )
        return cgi.environment.region.new_instance(self.world.linkage, memory_limit=limits.memory, start=False)

    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        response = self.response
        if status:
            self.record.log(f"exit status {status}")
            if not response.size:
                raise GuestError(f"exit status {status}, and no output")
        if self.exchange.status:
            return response.finish()
        head = response.head
        if head is None:
            raise MalformedOutput("the output has no end of its headers" if response.size else "no output")
        if head.local is not None and not response.rest and self.cgi.environment.reroute is not None:
            return self._redirect(head.local)
        self.exchange.respond(head.status, head.headers, bytes(response.rest))
        return None

    def _redirect(self, target: str) -> Coroutine[Any, Any, None] | None:
        """The response is that of another request, which the server routes as if a client had sent it."""
        reroute, old = self.cgi.environment.reroute, self.exchange.request
        self.record.redirects += 1
        if self.record.redirects > _MAX_REDIRECTS or reroute is None:
            raise GuestError(f"more than {_MAX_REDIRECTS} local redirects")
        self.exchange.request = Request(
            method="HEAD" if old.method == "HEAD" else "GET",
            target=target,
            headers=[one for one in old.headers if not one[0].startswith(b"content-")],
            body=BytesBody(),
            host=old.host,
            scheme=old.scheme,
            version=old.version,
            client=old.client,
            server=old.server,
            id=old.id,
        )
        return reroute(self.exchange, self.record)

    def close(self) -> None:
        if self.world is not None:
            self.log.flush()
            self.cgi.worlds.give_back(self.world)
            self.world = None


class Response(Output):
    """The program's standard output: headers, an empty line, a body."""

    __slots__ = ("_exchange", "_limit", "_sent", "head", "rest", "size")

    def __init__(self, exchange: Exchange, limit: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._limit = limit
        self._sent = perf_counter()
        """When something was sent; at first, when the program began."""
        self.head: Head | None = None
        self.rest = bytearray()
        """What has not been sent: until there is a head, all; then of the body."""
        self.size = 0
        """Bytes that the program has written."""

    def take(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        searched = len(self.rest)
        self.rest += data
        if self.head is None:
            ends = end_of_head(self.rest, searched)
            if ends is None:
                return
            self.head = parse_head(bytes(self.rest[: ends[0]]))
            del self.rest[: ends[1]]
        if self.size > self._limit:
            raise LimitReached("response_body")
        self.is_due = len(self.rest) >= _PIECE or (
            bool(self.rest) and self.head.local is None and perf_counter() - self._sent > _LATEST
        )

    async def flush(self) -> None:
        if self.head is None or (self.head.local is not None and not self.rest):
            return
        if not self._exchange.status:
            await self._exchange.start(self.head.status, self.head.headers)
        if self.rest:
            data = bytes(self.rest)
            self.rest.clear()
            await self._exchange.write(data)
        self.is_due = False
        self._sent = perf_counter()

    async def finish(self) -> None:
        await self.flush()
        await self._exchange.end()
