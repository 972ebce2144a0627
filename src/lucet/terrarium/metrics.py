"""What is counted, per tenant, and its Prometheus text. Counting costs a request less than a microsecond."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lucet.terrarium.record import Record

_BUCKETS: Final = 26
"""Powers of two of a microsecond: the last is 2**24, 16.8 seconds, and what is beyond."""


_SAMPLED: Final = 8
"""Of so many requests one is looked at in its parts."""


class Histogram:
    """Of durations. counts[int(seconds * 1e6).bit_length()] and sum are what an observation adds to."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * 64
        self.sum = 0.0

    def sample(self, seconds: float) -> None:
        """One of _SAMPLED observations stands for all."""
        self.counts[int(seconds * 1e6).bit_length()] += _SAMPLED
        self.sum += seconds * _SAMPLED

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for index in range(_BUCKETS - 1):
            total += self.counts[index]
            yield f'{name}_bucket{{{labels},le="{2**index / 1e6:g}"}} {total}'
        total += sum(self.counts[_BUCKETS - 1 :])
        yield f'{name}_bucket{{{labels},le="+Inf"}} {total}'
        yield f"{name}_sum{{{labels}}} {self.sum:.6f}"
        yield f"{name}_count{{{labels}}} {total}"

    def quantile(self, q: float) -> float:
        """Seconds, the upper edge of the bucket; 0 if there is nothing."""
        rest = q * sum(self.counts)
        for index, count in enumerate(self.counts):
            rest -= count
            if count and rest <= 0:
                return 2.0**index / 1e6
        return 0.0


class TenantMetrics:
    """Of one tenant since the server started."""

    __slots__ = (
        "_sampled",
        "cpu",
        "destroy",
        "duration",
        "faults",
        "instantiate",
        "limits",
        "log_lost",
        "memory",
        "outgoing",
        "run",
        "statuses",
    )

    def __init__(self) -> None:
        self._sampled = 1
        self.statuses: dict[int, int] = {}
        self.duration = Histogram()
        self.instantiate = Histogram()
        self.run = Histogram()
        self.destroy = Histogram()
        self.cpu = 0.0
        self.memory = 0
        """Bytes: the largest instance."""
        self.outgoing = 0
        self.faults = 0
        self.limits: dict[str, int] = {}
        self.log_lost = 0

    def add(self, record: Record, status: int, duration: float) -> None:
        """Count a request; one whose client went away before its response has status 0."""
        try:
            self.statuses[status] += 1
        except KeyError:
            self.statuses[status] = 1
        one = self.duration
        one.counts[int(duration * 1e6).bit_length()] += 1
        one.sum += duration
        if record.run_time:
            self.cpu += record.cpu_time
            self.memory = max(self.memory, record.memory)
            self._sampled -= 1
            if not self._sampled:
                self._sampled = _SAMPLED
                self.instantiate.sample(record.instantiate_time)
                self.run.sample(record.run_time)
                self.destroy.sample(record.destroy_time)
        if record.outgoing or record.log_lost or record.fault is not None or record.limit is not None:
            self._add_odd(record)

    def _add_odd(self, record: Record) -> None:
        """What most requests have not."""
        self.outgoing += record.outgoing
        self.log_lost += record.log_lost
        if record.fault is not None:
            self.faults += 1
        if record.limit is not None:
            self.limits[record.limit] = self.limits.get(record.limit, 0) + 1


_HISTOGRAMS: Final = {
    "duration": "From the head of a request to the end of its response.",
    "instantiate": "Making an instance (one request of eight is measured, for this and the next two).",
    "run": "From the guest's first instruction to its last.",
    "destroy": "Dropping an instance.",
}


def prometheus(tenants: Iterable[tuple[str, TenantMetrics]], gauges: Iterable[tuple[str, str, float]]) -> str:
    """The text exposition format (version 0.0.4). gauges: name, help, value."""
    tenants = [(f'tenant="{_escaped(name)}"', metrics) for name, metrics in tenants]
    lines = []

    def family(name: str, kind: str, text: str) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")

    family("lucet_requests_total", "counter", "Requests, by the status of their response; 0: the client went away.")
    for labels, one in tenants:
        lines += (f'lucet_requests_total{{{labels},status="{s}"}} {n}' for s, n in sorted(one.statuses.items()))
    for attribute, text in _HISTOGRAMS.items():
        name = f"lucet_{attribute}_seconds"
        family(name, "histogram", text)
        for labels, one in tenants:
            lines += getattr(one, attribute).lines(name, labels)
    for name, kind, text, attribute in (
        ("lucet_cpu_seconds_total", "counter", "Computing of guests.", "cpu"),
        ("lucet_memory_peak_bytes", "gauge", "The memory of the largest instance so far.", "memory"),
        ("lucet_outgoing_requests_total", "counter", "Requests that guests sent.", "outgoing"),
        ("lucet_faults_total", "counter", "Guests that trapped or failed otherwise.", "faults"),
        ("lucet_log_lost_bytes_total", "counter", "Log output beyond its limit.", "log_lost"),
    ):
        family(name, kind, text)
        lines += (f"{name}{{{labels}}} {getattr(one, attribute):.9g}" for labels, one in tenants)
    family("lucet_limits_total", "counter", "Requests that a limit ended, by the limit.")
    for labels, one in tenants:
        lines += (f'lucet_limits_total{{{labels},limit="{n}"}} {c}' for n, c in sorted(one.limits.items()))
    for name, text, value in gauges:
        family(name, "gauge", text)
        lines.append(f"{name} {value:.9g}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
