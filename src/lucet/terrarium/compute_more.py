"""Compute's functions for logs, addresses, devices, access lists, rates, and the guest's own usage."""

from __future__ import annotations

import ipaddress
import json
from collections import OrderedDict
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.compute_body import Item, Refused
from lucet.terrarium.compute_table import Status

if TYPE_CHECKING:
    from lucet.terrarium.compute_visit import ComputeVisit

MIB: Final = 1 << 20
MAX_ENDPOINT: Final = 255
MAX_LINES: Final = 1000
"""Of one message; what follows is one more."""
MAX_ENTRY: Final = 255
"""Characters of the name of a counter or a box, and of what is counted: they outlive the request."""
_STANDARD: Final = frozenset({"stdin", "stdout", "stderr"})


class Endpoint(Item):
    """A place for log messages."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def log_endpoint_get(_visit: ComputeVisit, name: str) -> Endpoint:
    if not 0 < len(name) <= MAX_ENDPOINT or name in _STANDARD or not name.isprintable():
        raise Refused(Status.INVAL)
    return Endpoint(name)


def log_write(visit: ComputeVisit, endpoint: Endpoint, span: tuple[int, int]) -> int:
    """To the request's log, each line with the endpoint's name. Beyond the log's limit it is counted, and dropped."""
    start, size = span
    read = min(size, visit.compute.environment.limits.log_bytes + 1)
    message = visit.memory.read(start, read)
    for line in message.removesuffix(b"\n").split(b"\n", MAX_LINES):
        visit.record.log(f"{endpoint.name}: {line.decode(errors='replace')}")
    visit.record.log_lost += size - read
    return size


# ---- what is configured ----


def geo_lookup(visit: ComputeVisit, octets: bytes) -> bytes:
    """JSON that is configured for an address."""
    found = visit.compute.settings("geolocation").get(str(_address(octets)))
    if found is None:
        raise Refused(Status.NONE)
    return found.encode()


def device_detection_lookup(visit: ComputeVisit, user_agent: str) -> bytes:
    """JSON that is configured for a user agent."""
    found = visit.compute.settings("device_detection").get(user_agent)
    if found is None:
        raise Refused(Status.NONE)
    return found.encode()


def _address(octets: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if len(octets) not in {4, 16}:
        raise Refused(Status.INVAL)
    return ipaddress.ip_address(octets)


class Acl:
    """Actions by prefix; the longest prefix decides."""

    ACL_OK: Final = 1
    NO_CONTENT: Final = 2

    __slots__ = ("_actions",)

    def __init__(self, actions: Mapping[str, str]) -> None:
        self._actions: dict[tuple[int, int, int], tuple[str, str]] = {}
        for text, action in actions.items():
            network = ipaddress.ip_network(text, strict=False)
            self._actions[network.version, network.prefixlen, int(network.network_address)] = str(network), action

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[str, str] | None:
        """Prefix and action."""
        number, bits = int(address), address.max_prefixlen
        for length in range(bits, -1, -1):
            left = bits - length
            found = self._actions.get((address.version, length, number >> left << left))
            if found is not None:
                return found
        return None


class OpenAcl(Item):
    """An access list as one guest has it open."""

    __slots__ = ("acl",)

    def __init__(self, acl: Acl) -> None:
        super().__init__()
        self.acl = acl


def acl_open(visit: ComputeVisit, name: str) -> OpenAcl:
    compute = visit.compute
    if name not in compute.acls:
        actions = compute.settings(f"acl:{name}")
        if not actions:
            raise Refused(Status.NONE)
        compute.acls[name] = Acl(actions)
    return OpenAcl(compute.acls[name])


def acl_lookup(visit: ComputeVisit, opened: OpenAcl, octets: bytes) -> tuple[Any, int]:
    found = opened.acl.find(_address(octets))
    if found is None:
        return None, Acl.NO_CONTENT
    prefix, action = found
    return visit.body_of(json.dumps({"prefix": prefix, "action": action}, indent=2).encode()), Acl.ACL_OK


# ---- rates ----


class Rates:
    """Counters by second, and penalty boxes, of one version of an application in one process."""

    SECONDS: Final = 60
    ENTRIES: Final = 10_000
    """Of each; the one that was not used for longest makes room."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str], dict[int, int]] = OrderedDict()
        self._boxes: OrderedDict[tuple[str, str], float] = OrderedDict()

    def add(self, counter: str, entry: str, delta: int) -> None:
        """Refused if a name is too long."""
        _named(counter, entry)
        now = int(monotonic())
        seconds = self._counts.pop((counter, entry), {})
        self._counts[counter, entry] = seconds
        seconds[now] = seconds.get(now, 0) + delta
        if len(seconds) > self.SECONDS:
            for second in [second for second in seconds if second <= now - self.SECONDS]:
                del seconds[second]
        if len(self._counts) > self.ENTRIES:
            self._counts.popitem(last=False)

    def count(self, counter: str, entry: str, duration: int) -> int:
        """In the last seconds."""
        now = int(monotonic())
        seconds = self._counts.get((counter, entry), {})
        return sum(number for second, number in seconds.items() if second > now - duration)

    def punish(self, box: str, entry: str, seconds: int) -> None:
        """Refused if a name is too long."""
        _named(box, entry)
        self._boxes.pop((box, entry), None)
        self._boxes[box, entry] = monotonic() + seconds
        if len(self._boxes) > self.ENTRIES:
            self._boxes.popitem(last=False)

    def is_punished(self, box: str, entry: str) -> bool:
        return self._boxes.get((box, entry), 0.0) > monotonic()


def _named(*names: str) -> None:
    if max(map(len, names)) > MAX_ENTRY:
        raise Refused(Status.INVAL)


WINDOWS: Final = frozenset({1, 10, 60})
DURATIONS: Final = frozenset({10, 20, 30, 40, 50, 60})
SHORTEST_PENALTY, LONGEST_PENALTY = 60, 3600


def _of(value: int, allowed: frozenset[int]) -> int:
    if value not in allowed:
        raise Refused(Status.INVAL)
    return value


def _penalty(seconds: int) -> int:
    if not SHORTEST_PENALTY <= seconds <= LONGEST_PENALTY:
        raise Refused(Status.INVAL)
    return seconds // 60 * 60


def erl_check_rate(
    visit: ComputeVisit, counter: str, entry: str, delta: int, window: int, limit: int, box: str, ttl: int
) -> int:
    """Count, and whether the entry is to be blocked: it is in the box, or comes into it now."""
    rates = visit.compute.rates
    seconds = _of(window, WINDOWS)
    penalty = _penalty(ttl)
    rates.add(counter, entry, delta)
    if rates.is_punished(box, entry):
        return 1
    if rates.count(counter, entry, seconds) / seconds <= limit:
        return 0
    rates.punish(box, entry, penalty)
    return 1


def erl_ratecounter_increment(visit: ComputeVisit, counter: str, entry: str, delta: int) -> None:
    visit.compute.rates.add(counter, entry, delta)


def erl_ratecounter_lookup_rate(visit: ComputeVisit, counter: str, entry: str, window: int) -> int:
    return visit.compute.rates.count(counter, entry, _of(window, WINDOWS)) // window


def erl_ratecounter_lookup_count(visit: ComputeVisit, counter: str, entry: str, duration: int) -> int:
    return visit.compute.rates.count(counter, entry, _of(duration, DURATIONS))


def erl_penaltybox_add(visit: ComputeVisit, box: str, entry: str, ttl: int) -> None:
    visit.compute.rates.punish(box, entry, _penalty(ttl))


def erl_penaltybox_has(visit: ComputeVisit, box: str, entry: str) -> int:
    return int(visit.compute.rates.is_punished(box, entry))


# ---- the guest itself ----


def compute_runtime_get_vcpu_ms(visit: ComputeVisit) -> int:
    """As of its last time slice."""
    return int(visit.record.cpu_time * 1000)


def compute_runtime_get_heap_mib(visit: ComputeVisit) -> int:
    size: int = visit.memory.size
    return -(-(size + visit.store.held) // MIB)
