"""What is noted of one request: for its log line, and for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lucet.terrarium.limits import Limits


class Record:
    """Times are seconds of a monotonic clock, and durations seconds."""

    __slots__ = (
        "_log_room",
        "begun",
        "charged",
        "cpu_time",
        "destroy_time",
        "ended",
        "fault",
        "instantiate_time",
        "limit",
        "log_lines",
        "log_lost",
        "memory",
        "outgoing",
        "redirects",
        "run_time",
        "trace",
    )

    def __init__(self, begun: float, limits: Limits) -> None:
        self.begun = begun
        self.ended = 0.0
        """When the instance was gone."""
        self.instantiate_time = 0.0
        self.run_time = 0.0
        """From the guest's first instruction to its last, waiting included."""
        self.cpu_time = 0.0
        self.charged = 0.0
        """Of that, what the tenant's load knows of already."""
        self.destroy_time = 0.0
        self.memory = 0
        """Bytes of the instance's memories at their largest."""
        self.outgoing = 0
        self.redirects = 0
        """Requests that the application itself made of the client's."""
        self.fault: str | None = None
        """What went wrong in the guest: "HEAP_OUT_OF_BOUNDS at f (0x12)"."""
        self.limit: str | None = None
        """The limit that ended it, by the name of Limits' field."""
        self.trace: str | None = None
        """The trace id of W3C's trace context, if the client sent one."""
        self.log_lines: list[str] | None = None
        self.log_lost = 0
        """Bytes of log output beyond the limit."""
        self._log_room = limits.log_bytes

    def log(self, text: str) -> None:
        """Something that the guest prints. What is beyond the limit is counted and dropped."""
        size = len(text) + 1
        if size > self._log_room:
            self.log_lost += size
            return
        self._log_room -= size
        if self.log_lines is None:
            self.log_lines = []
        self.log_lines.append(text)
