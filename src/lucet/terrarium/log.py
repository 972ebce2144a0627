"""One line of JSON for each request, with what its guest printed."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Container
from time import gmtime, strftime, time
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lucet.terrarium.catalogue import Deployment
    from lucet.terrarium.http import Request
    from lucet.terrarium.record import Record

_FLUSH: Final = 0.25
"""Seconds that a line may wait."""
_RECENT: Final = 200
"""Lines that are kept for each application."""
_AT_ONCE: Final = 250
"""Lines that are written together: making more of them would keep requests waiting for a millisecond and longer."""
_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")

Follower = Callable[[str], None]


class Line:
    """Of one request: its JSON is made when somebody wants it."""

    __slots__ = ("client", "deployment", "duration", "host", "id", "method", "record", "status", "target", "time")

    def __init__(self, deployment: Deployment, request: Request, record: Record, status: int, duration: float) -> None:
        self.time = time()
        self.deployment = deployment
        self.record = record
        self.status = status
        self.duration = duration
        # Not the request itself, whose headers and body need not be kept.
        self.id = request.id
        self.client = request.client[0]
        self.method = request.method
        self.host = request.host
        self.target = request.target

    def json(self) -> str:
        of, record = self.deployment, self.record
        line = (
            f'{{"time":"{_stamp(int(self.time * 1000))}","id":"{self.id}","tenant":{_quoted(of.tenant)},'
            f'"application":{_quoted(of.application)},"version":{_quoted(of.version)},"client":"{self.client}",'
            f'"method":"{self.method}","host":{_quoted(self.host)},"target":{_quoted(self.target)},'
            f'"status":{self.status},"duration_us":{self.duration * 1e6:.1f},'
            f'"instantiate_us":{record.instantiate_time * 1e6:.1f},"run_us":{record.run_time * 1e6:.1f},'
            f'"cpu_us":{record.cpu_time * 1e6:.1f},"memory":{record.memory}'
        )
        more: dict[str, Any] = {}
        if record.limit is not None:
            more["limit"] = record.limit
        if record.fault is not None:
            more["fault"] = record.fault
        if record.outgoing:
            more["outgoing"] = record.outgoing
        if record.trace is not None:
            more["trace"] = record.trace
        if record.log_lines is not None:
            more["log"] = record.log_lines
        if record.log_lost:
            more["log_lost_bytes"] = record.log_lost
        return f"{line},{json.dumps(more)[1:]}" if more else f"{line}}}"


class Event:
    """Something that is no request."""

    __slots__ = ("_fields",)

    def __init__(self, tenant: str, application: str, what: str, fields: dict[str, Any]) -> None:
        stamp = _stamp(int(time() * 1000))
        self._fields = {"time": stamp, "event": what, "tenant": tenant, "application": application, **fields}

    def json(self) -> str:
        return json.dumps(self._fields)


class Log:
    """Where lines go: a file, those who follow an application, and what is kept of it."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file
        self._lines: list[Line | Event] = []
        self._recent: dict[tuple[str, str], deque[Line | Event]] = {}
        self._followers: dict[tuple[str, str], list[Follower]] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self.lost = 0
        """Lines that could not be written: a full disk does not stop the server."""

    def add(self, deployment: Deployment, request: Request, record: Record, status: int, duration: float) -> None:
        """A request is over. status: 0 if its client went away before a response."""
        self._add((deployment.tenant, deployment.application), Line(deployment, request, record, status, duration))

    def event(self, tenant: str, application: str, what: str, **fields: Any) -> None:
        """Something that is no request."""
        self._add((tenant, application), Event(tenant, application, what, fields))

    def _add(self, key: tuple[str, str], line: Line | Event) -> None:
        try:
            self._recent[key].append(line)
        except KeyError:
            self._recent[key] = deque((line,), _RECENT)
        if self._followers and key in self._followers:
            for follower in tuple(self._followers[key]):
                follower(line.json())
        if self._file is not None:
            self._lines.append(line)
            if self._flushing is None:
                self._flushing = asyncio.get_running_loop().call_later(_FLUSH, self.flush)
            elif len(self._lines) > _AT_ONCE:
                self.flush()

    def flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        lines, self._lines = self._lines, []
        if self._file is None or not lines:
            return
        try:
            self._file.write("".join([line.json() + "\n" for line in lines]).encode())
            self._file.flush()
        except OSError:
            self.lost += len(lines)

    def recent(self, tenant: str, application: str) -> list[str]:
        """The last lines of an application, oldest first."""
        return [line.json() for line in self._recent.get((tenant, application), ())]

    def follow(self, tenant: str, application: str, follower: Follower) -> Callable[[], None]:
        """Call it with every line to come, until what is given back is called."""
        followers = self._followers.setdefault((tenant, application), [])
        followers.append(follower)

        def stop() -> None:
            followers.remove(follower)
            if not followers:
                self._followers.pop((tenant, application), None)

        return stop

    def forget_others(self, applications: Container[tuple[str, str]]) -> None:
        """Drop what is kept of applications that are none of these."""
        for key in [one for one in self._recent if one not in applications and all(one)]:
            del self._recent[key]


_last_stamp = (0, "")


def _stamp(milliseconds: int) -> str:
    """RFC 3339, UTC."""
    global _last_stamp  # noqa: PLW0603 - the second that most lines of a flush have in common
    seconds, rest = divmod(milliseconds, 1000)
    if seconds != _last_stamp[0]:
        _last_stamp = (seconds, strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)))
    return f"{_last_stamp[1]}.{rest:03}Z"


def _quoted(text: str) -> str:
    return f'"{text}"' if _PLAIN.fullmatch(text) else json.dumps(text)
