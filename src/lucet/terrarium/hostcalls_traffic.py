"""Requests that a guest of the interface hostcalls makes: drafts, those under way, and their responses, by handles."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.http import ClientGone, Headers, OutgoingFailed, OutgoingRefused, OutgoingRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lucet.terrarium.hostcalls_visit import HostcallsVisit
    from lucet.terrarium.http import Body

ERROR: Final = -1

MAX_DRAFTS: Final = 256
"""Requests that are made and not sent."""
MAX_METHOD: Final = 32
MAX_URL: Final = 8192
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_URL: Final = re.compile(rb"https?://[\x21-\x7e]+", re.IGNORECASE)


@dataclass(slots=True)
class Draft:
    method: str
    url: str
    headers: Headers = field(default_factory=list)
    body: bytes = b""


@dataclass(slots=True)
class Response:
    status: int
    headers: Headers
    body: bytes


class Traffic:
    """Of one visit. Handles count from 1; 0 stands for what the client has sent, or is sent."""

    def __init__(self, visit: HostcallsVisit) -> None:
        environment = visit.interface.environment
        self._record = visit.record
        self._outgoing = environment.outgoing()
        self._requests_left = environment.limits.outgoing_requests
        self.room = environment.limits.response_body
        """Bytes that bodies may have, together: nothing of this is given back before the visit is over."""
        self.drafts: dict[int, Draft] = {}
        self.pending: dict[int, asyncio.Task[Response | None]] = {}
        self.responses: dict[int, Response] = {}
        self._handles = 0
        self._is_closed = False

    def _handle(self) -> int:
        self._handles += 1
        return self._handles

    def create(self, method: bytes, url: bytes) -> int:
        """A draft's handle, or ERROR."""
        if len(self.drafts) >= MAX_DRAFTS or _METHOD.fullmatch(method) is None or _URL.fullmatch(url) is None:
            return ERROR
        handle = self._handle()
        self.drafts[handle] = Draft(method.decode(), url.decode())
        return handle

    def take_room(self, size: int) -> bool:
        if size > self.room:
            return False
        self.room -= size
        return True

    def start(self, handle: int) -> int:
        """Send a draft, which is gone then: a handle for what is pending, or ERROR."""
        draft = self.drafts.pop(handle, None)
        if draft is None:
            return ERROR
        if not self._requests_left:
            self._record.log(f"outgoing request refused, {draft.method} {draft.url}: the limit outgoing_requests")
            return ERROR
        self._requests_left -= 1
        self._record.outgoing += 1
        pending = self._handle()
        self.pending[pending] = asyncio.get_running_loop().create_task(self._send(draft))
        return pending

    async def _send(self, draft: Draft) -> Response | None:
        request = OutgoingRequest(method=draft.method, url=draft.url, headers=draft.headers, body=draft.body)
        try:
            response = await self._outgoing.send(request)
            return Response(response.status, response.headers, await self._body(response.body))
        except OutgoingRefused as error:
            self._record.log(f"outgoing request refused, {draft.method} {draft.url}: {error}")
        except (OutgoingFailed, ClientGone) as error:
            self._record.log(f"outgoing request failed, {draft.method} {draft.url}: {error}")
        return None

    async def _body(self, body: Body) -> bytes:
        parts = []
        while part := await body.read():
            if not self.take_room(len(part)):
                raise OutgoingFailed("the response is too large: the limit response_body")
            parts.append(part)
        return b"".join(parts)

    async def wait(self, handle: int) -> int:
        """The handle of the response to what is pending, which is gone then, or ERROR."""
        task = self.pending.get(handle)
        if task is None:
            return ERROR
        await asyncio.wait([task])
        return self._finished(handle)

    def _finished(self, handle: int) -> int:
        response = self.pending.pop(handle).result()
        if response is None:
            return ERROR
        handle = self._handle()
        self.responses[handle] = response
        return handle

    async def poll(self, handle: int) -> int | None:
        """As wait; None if there is none yet. Lets the event loop go on, so that a guest may poll until there is."""
        task = self.pending.get(handle)
        if task is None:
            return ERROR
        if not task.done():
            await asyncio.sleep(0)
        return self._finished(handle) if task.done() else None

    async def select(self, handles: list[int]) -> tuple[int, int]:
        """Wait for one of them: its handle, and that of its response or ERROR."""
        tasks = [self.pending.get(handle) for handle in handles]
        if None in tasks or not tasks:
            return ERROR, ERROR
        await asyncio.wait({task for task in tasks if task is not None}, return_when=asyncio.FIRST_COMPLETED)
        handle = next(handle for handle, task in zip(handles, tasks, strict=True) if task is not None and task.done())
        return handle, self._finished(handle)

    def _cancel(self) -> bool:
        """Whether there is something to close."""
        if self._is_closed:
            return False
        self._is_closed = True
        for task in self.pending.values():
            task.cancel()
        return True

    def close(self) -> Coroutine[Any, Any, None] | None:
        return self._close() if self._cancel() else None

    async def _close(self) -> None:
        await asyncio.gather(*self.pending.values(), return_exceptions=True)
        await self._outgoing.close()

    def abandon(self) -> None:
        """Likewise, without waiting for it."""
        if self._cancel():
            task = asyncio.get_running_loop().create_task(self._close())
            _closing.add(task)
            task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()
