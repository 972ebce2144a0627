"""Compute: logs, addresses, devices, access lists, rates, and the guest's own usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lucet.terrarium import compute_more
from lucet.terrarium.compute_more import Rates
from lucet.terrarium.compute_table import Status
from tests.kit.compute import Caller

CONFIGURATION = {
    "fastly:geolocation": {"192.0.2.7": '{"city":"here"}', "2001:db8::1": '{"city":"there"}'},
    "fastly:device_detection": {"Browser/1": '{"device":{}}'},
    "fastly:acl:blocked": {"192.0.2.0/24": "BLOCK", "192.0.2.7/32": "ALLOW", "2001:db8::/32": "BLOCK"},
}
V6 = bytes.fromhex("20010db8000000000000000000000001")


def test_logs() -> None:
    with Caller() as guest:
        endpoint = guest.good("fastly_log.endpoint_get", "access")
        assert guest.good("fastly_log.write", endpoint, b"one\ntwo\xff\n") == 9
        assert guest.good("fastly_log.write", endpoint, b"") == 0
        assert guest.record.log_lines == ["access: one", "access: two\N{REPLACEMENT CHARACTER}", "access: "]
        for name in ("", "stdout", "stderr", "n" * 256, "a\nb"):
            assert guest.status("fastly_log.endpoint_get", name) == Status.INVAL
        assert guest.status("fastly_log.write", 99, b"x") == Status.BADF


def test_logs_are_bounded() -> None:
    with Caller() as guest:
        endpoint = guest.good("fastly_log.endpoint_get", "access")
        assert guest.good("fastly_log.write", endpoint, b"x" * 20000) == 20000
        assert guest.good("fastly_log.write", endpoint, b"\n" * 100_000) == 100_000
        assert guest.record.log_lost > 100_000
        assert sum(map(len, guest.record.log_lines or [])) <= guest.app.limits.log_bytes
        # Of a message that is very large, no more is read than can be kept.
        lost = guest.record.log_lost
        at, size = guest.put(b"x" * 1000), guest.room(4)
        assert guest.raw("fastly_log.write", endpoint, at, 3 << 20, size) == 0
        assert guest.memory.read_u32(size) == 3 << 20
        assert guest.record.log_lost >= lost + (3 << 20)


def test_where_an_address_is() -> None:
    with Caller(configuration=CONFIGURATION) as guest:
        assert guest.good("fastly_geo.lookup", bytes([192, 0, 2, 7])) == b'{"city":"here"}'
        assert guest.good("fastly_geo.lookup", V6) == b'{"city":"there"}'
        assert guest.call("fastly_geo.lookup", V6, room=1) == (Status.BUFLEN, 16)
        assert guest.status("fastly_geo.lookup", bytes(4)) == Status.NONE
        assert guest.status("fastly_geo.lookup", bytes(5)) == Status.INVAL


def test_what_device_it_is() -> None:
    with Caller(configuration=CONFIGURATION) as guest:
        assert guest.good("fastly_device_detection.lookup", "Browser/1") == b'{"device":{}}'
        assert guest.status("fastly_device_detection.lookup", "Browser/2") == Status.NONE


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (bytes([192, 0, 2, 7]), {"prefix": "192.0.2.7/32", "action": "ALLOW"}),
        (bytes([192, 0, 2, 8]), {"prefix": "192.0.2.0/24", "action": "BLOCK"}),
        (V6, {"prefix": "2001:db8::/32", "action": "BLOCK"}),
        (bytes([192, 0, 3, 7]), None),
        (bytes(16), None),
    ],
)
def test_access_lists(octets: bytes, found: Any) -> None:
    with Caller(configuration=CONFIGURATION) as guest:
        acl = guest.good("fastly_acl.open", "blocked")
        body, error = guest.good("fastly_acl.lookup", acl, octets)
        assert error == (1 if found else 2)
        if found:
            assert json.loads(guest.read(body)) == found


def test_access_lists_that_are_wrong() -> None:
    with Caller(configuration=CONFIGURATION) as guest:
        assert guest.status("fastly_acl.open", "absent") == Status.NONE
        acl = guest.good("fastly_acl.open", "blocked")
        assert guest.status("fastly_acl.lookup", acl, b"12345") == Status.INVAL
        assert guest.status("fastly_acl.lookup", acl + 99, bytes(4)) == Status.BADF


# ---- rates ----


class Time:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(compute_more, "monotonic", lambda: self.now)


def test_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    with Caller() as guest:
        check = ("fastly_erl.check_rate", "counter", "client", 1, 10, 2, "box", 120)
        assert [guest.good(*check) for _ in range(20)] == [0] * 20
        assert guest.good(*check) == 1
        assert guest.good("fastly_erl.ratecounter_lookup_count", "counter", "client", 10) == 21
        assert guest.good("fastly_erl.ratecounter_lookup_rate", "counter", "client", 10) == 2
        assert guest.good("fastly_erl.penaltybox_has", "box", "client") == 1
        assert guest.good("fastly_erl.penaltybox_has", "box", "another") == 0
        time.now += 60
        assert guest.good("fastly_erl.ratecounter_lookup_count", "counter", "client", 60) == 0
        assert guest.good(*check) == 1
        time.now += 61
        assert guest.good(*check) == 0
        assert guest.good("fastly_erl.ratecounter_lookup_count", "counter", "client", 60) == 1


def test_counters_and_boxes_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    with Caller() as guest:
        assert guest.call("fastly_erl.ratecounter_increment", "counter", "client", 7) == (0,)
        assert guest.good("fastly_erl.ratecounter_lookup_rate", "counter", "client", 1) == 7
        assert guest.call("fastly_erl.penaltybox_add", "box", "client", 60) == (0,)
        assert guest.good("fastly_erl.penaltybox_has", "box", "client") == 1
        time.now += 60
        assert guest.good("fastly_erl.penaltybox_has", "box", "client") == 0
        assert guest.status("fastly_erl.ratecounter_lookup_rate", "counter", "client", 2) == Status.INVAL
        assert guest.status("fastly_erl.ratecounter_lookup_count", "counter", "client", 5) == Status.INVAL
        for names in (("n" * 256, "e"), ("n", "e" * 256)):
            assert guest.status("fastly_erl.ratecounter_increment", *names, 1) == Status.INVAL
            assert guest.status("fastly_erl.penaltybox_add", *names, 60) == Status.INVAL
        for ttl in (0, 59, 3601):
            assert guest.status("fastly_erl.penaltybox_add", "box", "client", ttl) == Status.INVAL


def test_rates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    rates = Rates()
    for i in range(Rates.ENTRIES + 5):
        rates.add("counter", str(i), 1)
        rates.punish("box", str(i), 60)
    assert len(rates._counts) == len(rates._boxes) == Rates.ENTRIES
    assert rates.count("counter", "0", 60) == 0
    assert rates.count("counter", str(Rates.ENTRIES + 4), 60) == 1
    for _ in range(1000):
        time.now += 1
        rates.add("counter", "one", 1)
    assert len(rates._counts["counter", "one"]) <= Rates.SECONDS + 1
    assert rates.count("counter", "one", 60) == 60


# ---- the guest itself ----


def test_what_the_guest_uses() -> None:
    with Caller() as guest:
        guest.record.cpu_time = 0.0125
        assert guest.good("fastly_compute_runtime.get_vcpu_ms") == 12
        assert guest.good("fastly_compute_runtime.get_heap_mib") == 4
        guest.body(b"x" * 100)
        assert guest.good("fastly_compute_runtime.get_heap_mib") == 5
