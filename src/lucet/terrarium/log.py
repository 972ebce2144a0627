"""One line of JSON for each request, with what its guest printed."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lucet.terrarium.http import Request
    from lucet.terrarium.record import Record

_FLUSH: Final = 0.25
"""Seconds that a line may wait."""
_RECENT: Final = 200
"""Lines that are kept for each application."""

Follower = Callable[[str], None]


class Log:
    """Where lines go: a file, those who follow an application, and what is kept of it."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file
        self._lines: list[str] = []
        self._recent: dict[tuple[str, str], deque[str]] = {}
        self._followers: dict[tuple[str, str], list[Follower]] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._second = 0
        self._stamp = ""
        self.lost = 0
        """Lines that could not be written: a full disk does not stop the server."""

    def add(self, tenant: str, application: str, version: str, request: Request, record: Record, fields: str) -> None:
        """fields: more of them, as `,"name":value`."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        target = request.target
        if '"' in target or "\\" in target or not target.isprintable():
            target = json.dumps(target)[1:-1]
        line = (
            f'{{"time":"{self._stamp}.{int((now - second) * 1000):03}Z","id":"{request.id}","tenant":"{tenant}",'
            f'"application":"{application}","version":"{version}","client":"{request.client[0]}",'
            f'"method":"{request.method}","host":{_quoted(request.host)},"target":"{target}"{fields},'
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
        self.write(tenant, application, f"{line},{json.dumps(more)[1:]}" if more else f"{line}}}")

    def event(self, tenant: str, application: str, what: str, **fields: Any) -> None:
        """Something that is no request."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.write(
            tenant,
            application,
            json.dumps({"time": stamp, "event": what, "tenant": tenant, "application": application, **fields}),
        )

    def write(self, tenant: str, application: str, line: str) -> None:
        key = (tenant, application)
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque(maxlen=_RECENT)
        recent.append(line)
        if self._followers and key in self._followers:
            for follower in tuple(self._followers[key]):
                follower(line)
        if self._file is not None:
            self._lines.append(line)
            if self._flushing is None:
                self._flushing = asyncio.get_running_loop().call_later(_FLUSH, self.flush)

    def flush(self) -> None:
        self._flushing = None
        lines, self._lines = self._lines, []
        if self._file is None or not lines:
            return
        try:
            self._file.write(("\n".join(lines) + "\n").encode())
            self._file.flush()
        except OSError:
            self.lost += len(lines)

    def recent(self, tenant: str, application: str) -> list[str]:
        return list(self._recent.get((tenant, application), ()))

    def follow(self, tenant: str, application: str, follower: Follower) -> Callable[[], None]:
        """Call it with every line to come, until what is given back is called."""
        followers = self._followers.setdefault((tenant, application), [])
        followers.append(follower)

        def stop() -> None:
            followers.remove(follower)
            if not followers:
                self._followers.pop((tenant, application), None)

        return stop

    def forget(self, tenant: str, application: str) -> None:
        self._recent.pop((tenant, application), None)


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isalnum() or text.replace(".", "").replace("-", "").isalnum() else json.dumps(text)
