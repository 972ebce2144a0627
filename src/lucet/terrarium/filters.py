"""A chain of filters in front of an application: guests of the interface http-handler (handler.py).

Each has a fresh instance and its own limits. Requests go from the first to the last, which passes them on to the
application; responses come back the other way. A filter that fails, answers: nothing behind it is run, or what that has
answered is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import Exit
from lucet.runtime import Instance, Suspended
from lucet.terrarium import guest
from lucet.terrarium import headers as fields
from lucet.terrarium.eager import a_task, eagerly
from lucet.terrarium.guest import LimitReached
from lucet.terrarium.handler import HANDLE_REQUEST, HANDLE_RESPONSE, Handler, HandlerVisit
from lucet.terrarium.handler_body import BUFFER_RESPONSE
from lucet.terrarium.http import BytesBody, ClientGone, Exchange, Headers, read_all
from lucet.terrarium.interface import SLICE, GuestError
from lucet.terrarium.record import Record

if TYPE_CHECKING:
    from lucet.terrarium.http import Body
    from lucet.terrarium.interface import Interface

_SHORTEST_SLICE: Final = 0.0005
_TEXT: Final[Headers] = [(b"content-type", b"text/plain; charset=utf-8")]
_ANSWERED, _PASSED_ON = 0, 1
"""What handle_request returns in its lower 32 bits."""


def answer(
    chain: Sequence[Handler], application: Interface | None, exchange: Exchange, record: Record
) -> Coroutine[Any, Any, None] | None:
    """Let a chain of filters, outermost first, and what is behind them answer. None, or a coroutine: as guest.answer.

    application: of any interface; None, if nothing is behind the filters: 404.
    """
    if isinstance(application, Handler):
        chain, application = (*chain, application), None
    if not chain and application is not None:
        return guest.answer(application, exchange, record)
    return eagerly(_answer(chain, application, exchange, record))


async def _answer(chain: Sequence[Handler], application: Interface | None, exchange: Exchange, record: Record) -> None:
    links: list[_Link] = []
    inner = _Inner(exchange, record)
    try:
        for handler in chain:
            link = _Link(handler, inner, record)
            links.append(link)
            try:
                is_passed_on = await link.handle_request()
            except Exception as error:
                inner.fail(link, error)
                break
            if not is_passed_on:
                visit = link.visit
                inner.respond(visit.status, visit.headers, visit.body or b"")
                break
            inner.request = link.visit.request
            inner.passed.append(link)
        else:
            await _pass_on(application, inner, record)
        await inner.finish()
    except ClientGone:
        record.fault = "client gone"
    finally:
        for link in links:
            link.close()
        record.ended = perf_counter()


async def _pass_on(application: Interface | None, inner: _Inner, record: Record) -> None:
    if application is None:
        inner.respond(404, _TEXT, f"nothing answers this\nrequest {inner.request.id}\n".encode())
        return
    request = inner.request
    if application.whole_body:
        limits = application.environment.limits
        try:
            request.body = BytesBody(await _whole(request.body, limits.request_body, limits.wall_time))
        except Exception as error:
            guest.failed(application, inner, record, error)
            return
    rest = guest.answer(application, inner, record)
    if rest is not None:
        await a_task()
        await rest


async def _whole(body: Body, limit: int, seconds: float) -> bytes:
    data = body.at_once()
    if data is None:
        await a_task()
        try:
            async with asyncio.timeout(seconds):
                return await read_all(body, limit)
        except TimeoutError:
            raise LimitReached("wall_time") from None
    return await read_all(BytesBody(data), limit)


class _LinkRecord(Record):
    """Of one filter, within the request's."""

    __slots__ = ("_all", "_name")

    def __init__(self, handler: Handler, all_: Record) -> None:
        super().__init__(all_.begun, handler.environment.limits)
        self._name = handler.environment.application
        self._all = all_

    def log(self, text: str) -> None:
        self._all.log(f"{self._name}: {text}")

    def add(self) -> None:
        """To the request's."""
        record = self._all
        record.instantiate_time += self.instantiate_time
        record.cpu_time += self.cpu_time
        record.run_time += self.run_time
        record.memory = max(record.memory, self.memory)
        if self.limit is not None:
            record.limit = self.limit
        if self.fault is not None or self.limit is not None:
            record.fault = f"filter {self._name}: {self.fault or f'limit {self.limit}'}"


class _Link:
    """A filter with its instance."""

    __slots__ = ("_context", "_instance", "handler", "record", "visit")

    def __init__(self, handler: Handler, inner: _Inner, record: Record) -> None:
        self.handler = handler
        self.record = _LinkRecord(handler, record)
        self.visit: HandlerVisit = handler.visit(inner, self.record)
        self._instance: Instance | None = None
        self._context = 0

    async def handle_request(self) -> bool:
        """Whether the request is to be passed on."""
        start = perf_counter()
        instance = self._instance = self.visit.new_instance()
        instance.context = self.visit
        self.record.instantiate_time = perf_counter() - start
        for beginning in self.handler.beginnings:
            try:
                await self._run(instance, beginning)
            except Exit as end:
                raise GuestError(f"it ended with status {end.status}") from None
        result = await self._run(instance, HANDLE_REQUEST)
        self._context = result >> 32
        match result & 0xFFFFFFFF:
            case 0:
                return False
            case 1:
                self.visit.pass_on()
                return True
            case other:
                raise GuestError(f"{HANDLE_REQUEST} returned next={other}: 0 and 1 are known")

    async def handle_response(self, status: int, headers: Headers, body: bytes | None, is_error: bool) -> None:
        """body: None if the filter does not see it."""
        if self._instance is not None:
            self.visit.answered_with(status, headers, body)
            await self._run(self._instance, HANDLE_RESPONSE, self._context, int(is_error))

    async def _run(self, instance: Instance, name: str, *arguments: int) -> Any:
        limits = self.handler.environment.limits
        record = self.record
        left = limits.cpu_time - record.cpu_time
        if left <= 0:
            raise LimitReached("cpu_time")
        time_slice = instance.time_slice = max(min(SLICE, left), _SHORTEST_SLICE)
        begun = perf_counter()
        try:
            try:
                run = instance.run(name, *arguments) if name else instance._start()
            finally:
                record.cpu_time += min(perf_counter() - begun, time_slice)
            if not isinstance(run, Suspended):
                return run
            try:
                await a_task()
            except BaseException:
                run.close()
                raise
            async with asyncio.timeout(limits.wall_time):
                return await guest.finish(run, record, limits.cpu_time, instance)
        except TimeoutError:
            raise LimitReached("wall_time") from None
        finally:
            record.run_time += perf_counter() - begun

    def close(self) -> None:
        if self._instance is not None:
            self.record.memory = self._instance._raw_usage[1]
            self._instance.close()
            self._instance = None
        self.visit.close()
        self.record.add()


class _Inner(Exchange):
    """The exchange as those behind the filters have it: what they answer goes back through the filters."""

    __slots__ = ("_ended", "_exchange", "_failed", "_parts", "_record", "_size", "_whole", "passed")

    def __init__(self, exchange: Exchange, record: Record) -> None:
        super().__init__(exchange.request)
        self._exchange = exchange
        self._record = record
        self._whole: tuple[int, Headers, bytes] | None = None
        """A response that has not been sent."""
        self._parts: list[bytes] | None = None
        """Of the body of a response that is begun, if a filter is to see it whole."""
        self._size = 0
        self._ended = False
        self._failed = False
        """Whether a filter has, since the response was begun by those behind it."""
        self.passed: list[_Link] = []
        """The filters that have passed the request on, outermost first."""

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        fields.checked(status, headers)
        self.status = status
        self._whole = (status, headers, body)

    async def start(self, status: int, headers: Headers) -> None:
        checked = fields.checked(status, headers)
        self.status = status
        if any(link.visit.features & BUFFER_RESPONSE for link in self.passed):
            self._whole = (status, headers, b"")
            self._parts = []
            return
        status, headers, body = await self._through(status, checked, b"")
        if self._failed:
            self._whole = (status, headers, body)
        self._require_open()
        await self._exchange.start(status, headers)

    async def write(self, data: bytes) -> None:
        self._require_open()
        if self._parts is None:
            await self._exchange.write(data)
            return
        self._size += len(data)
        limits = self.passed[-1].handler.environment.limits
        if self._size > limits.response_body:
            self._record.limit = "response_body"
            raise LimitReached("response_body")
        self._parts.append(data)

    def _require_open(self) -> None:
        if self._failed:
            raise GuestError("a filter has failed")

    async def end(self) -> None:
        self._require_open()
        self._ended = True
        if self._parts is None:
            await self._exchange.end()

    def fail(self, link: _Link, error: Exception) -> None:
        """The filter's response is that it has failed."""
        self._failed = True
        self._whole = None
        self.status = 0
        guest.failed(link.handler, self, link.record, error)
        if self._whole is None:
            raise ClientGone(str(error))

    async def finish(self) -> None:
        """Those behind the filters are done."""
        if self._whole is None:
            return
        status, headers, body = self._whole
        if self._parts is not None:
            body = b"".join(self._parts)
            if not self._ended:
                status, headers, body = 502, _TEXT, b"the response broke off\n"
        if not self._exchange.status:
            status, headers, body = await self._through(status, headers, body)
            self._exchange.respond(status, headers, body)

    async def _through(self, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """What becomes of a response in the filters that have passed the request on."""
        is_error = self._failed or self._record.fault is not None or self._record.limit is not None
        while self.passed:
            link = self.passed.pop()
            visit = link.visit
            is_seen = bool(visit.features & BUFFER_RESPONSE)
            try:
                await link.handle_response(status, headers, body if is_seen else None, is_error)
            except Exception as error:
                self.fail(link, error)
                is_error = True
                if self._whole is not None:
                    status, headers, body = self._whole
                continue
            status, headers = visit.status, visit.headers
            if visit.body is not None:
                body = visit.body
        return status, headers, body
