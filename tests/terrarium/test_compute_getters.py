"""Compute: every function that gives text or bytes tells how much room it needs, and then gives them."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from lucet.terrarium.compute_table import CALLS, Status
from tests.kit.compute import Caller

V6 = bytes.fromhex("20010db8000000000000000000000001")


def request(guest: Caller) -> int:
    return int(guest.good("fastly_http_req.body_downstream_get")[0])


def response(guest: Caller) -> int:
    made: int = guest.good("fastly_http_resp.new")
    for name, value in ((b"x-one", b"value"), (b"x-one", b"another"), (b"x-two", b"")):
        guest.good("fastly_http_resp.header_append", made, name, value)
    return made


def body(guest: Caller) -> int:
    made = guest.body()
    for name, value in ((b"x-one", b"value"), (b"x-one", b"another"), (b"x-two", b"")):
        guest.good("fastly_http_body.trailer_append", made, name, value)
    return made


def store(module: str) -> Callable[[Caller], int]:
    return lambda guest: int(guest.good(f"{module}.open", "settings"))


def secret(guest: Caller) -> int:
    return int(guest.good("fastly_secret_store.get", guest.good("fastly_secret_store.open", "vault"), "key"))


def lookup(guest: Caller) -> int:
    guest.app.keys.put("things", b"key", b"value", metadata=b"metadata")
    return int(guest.good("fastly_kv_store.lookup", guest.good("fastly_kv_store.open", "things"), "key", 0, 0))


def cached(guest: Caller) -> int:
    config = guest.put(pack("<QIIIxxxxQQIIQIIQII", 10**12, 0, 0, 0, 0, 0, 0, 0, 0, guest.put(b"about"), 5, 0, 0, 0))
    body = guest.good("fastly_cache.insert", b"key", 1 << 7, config)
    guest.good("fastly_http_body.close", body)
    return int(guest.good("fastly_cache.lookup", b"key", 0, 0))


# What to give to each: a maker of its handle, or what stands there, and the rest; and what comes of it.
VALUES: dict[str, tuple[list[Any], bytes]] = {
    "fastly_http_req.method_get": ([request], b"POST"),
    "fastly_http_req.uri_get": ([request], b"http://example.test/path"),
    "fastly_http_req.header_value_get": ([request, b"x-one"], b"value"),
    "fastly_http_req.downstream_client_request_id": ([], b"request-1"),
    "fastly_http_downstream.downstream_client_request_id": ([request], b"request-1"),
    "fastly_http_resp.header_value_get": ([response, b"x-one"], b"value"),
    "fastly_http_body.trailer_value_get": ([body, b"x-one"], b"value"),
    "fastly_dictionary.get": ([store("fastly_dictionary"), "key"], "välue".encode()),
    "fastly_config_store.get": ([store("fastly_config_store"), "key"], "välue".encode()),
    "fastly_secret_store.plaintext": ([secret], b"s3cret"),
    "fastly_kv_store.lookup_wait": ([lookup], b"metadata"),
    "fastly_kv_store.lookup_wait_v2": ([lookup], b"metadata"),
    "fastly_backend.get_host": (["origin"], b"origin.test"),
    "fastly_backend.get_override_host": (["origin"], b"override.test"),
    "fastly_geo.lookup": ([V6], b'{"city":"there"}'),
    "fastly_cache.get_user_metadata": ([cached], b"about"),
    "fastly_device_detection.lookup": (["Browser/1"], b'{"device":{}}'),
}
NAMES = [b"host", b"x-one", b"x-two"]
LISTS: dict[str, tuple[list[Any], list[bytes]]] = {
    "fastly_http_req.header_names_get": ([request], NAMES),
    "fastly_http_req.header_values_get": ([request, b"x-one"], [b"value", b"another"]),
    "fastly_http_req.original_header_names_get": ([], NAMES),
    "fastly_http_downstream.downstream_original_header_names": ([request], NAMES),
    "fastly_http_resp.header_names_get": ([response], NAMES[1:]),
    "fastly_http_resp.header_values_get": ([response, b"x-one"], [b"value", b"another"]),
    "fastly_http_body.trailer_names_get": ([body], NAMES[1:]),
    "fastly_http_body.trailer_values_get": ([body, b"x-one"], [b"value", b"another"]),
}


def caller() -> Caller:
    return Caller(
        "POST",
        "/path",
        headers=[(b"x-one", b"value"), (b"x-one", b"another"), (b"x-two", b"")],
        configuration={
            "settings": {"key": "välue"},
            "fastly:override_host": {"origin": "override.test"},
            "fastly:geolocation": {"2001:db8::1": '{"city":"there"}'},
            "fastly:device_detection": {"Browser/1": '{"device":{}}'},
        },
        secrets={"vault": {"key": b"s3cret"}},
        backends={"origin": "http://origin.test"},
    )


def given(guest: Caller, what: list[Any]) -> list[Any]:
    return [one(guest) if callable(one) else one for one in what]


def test_every_getter_is_here() -> None:
    for kind, table in (("value", VALUES), ("values", LISTS)):
        there = {f"{module}.{name}" for (module, name), call in CALLS.items() if kind in call.gives}
        absent = {f"{module}.{name}" for (module, name), call in CALLS.items() if call.function == "absent"}
        assert set(table) == there - absent


@pytest.mark.parametrize("name", VALUES)
def test_a_value(name: str) -> None:
    what, expected = VALUES[name]
    module, _, function = name.partition(".")
    index = CALLS[module, function].gives.index("value")
    with caller() as guest:
        arguments = given(guest, what)
        for room in (0, 1, len(expected) - 1):
            status, *results = guest.call(name, *arguments, room=room)
            assert (status, results[index]) == (Status.BUFLEN, len(expected))
        # Exactly as much, and not a byte beyond.
        numbers = guest.arguments(name, *arguments, room=len(expected) + 1)
        at = numbers.index(len(expected) + 1) - 1
        numbers[at + 1] = len(expected)
        guest.memory.write(numbers[at] + len(expected), b"~")
        assert guest.raw(name, *numbers) == 0
        assert guest.memory.read(numbers[at], len(expected) + 1) == expected + b"~"
        assert guest.memory.read_u32(numbers[at + 2]) == len(expected)


@pytest.mark.parametrize("name", LISTS)
def test_a_list(name: str) -> None:
    what, expected = LISTS[name]
    with caller() as guest:
        arguments = given(guest, what)
        whole = b"".join(one + b"\0" for one in expected)
        assert guest.good(name, *arguments) == (whole, -1)
        assert guest.good(name, *arguments, room=len(whole)) == (whole, -1)
        assert guest.call(name, *arguments, room=len(expected[0])) == (Status.BUFLEN, (len(expected[0]) + 1, -1))
        # One after the other, each with as much room as it needs.
        cursor, found = 0, list[bytes]()
        while cursor >= 0:
            item, cursor = guest.good(name, *arguments, room=len(expected[len(found)]) + 1, cursor=cursor)
            found.append(item)
        assert found == [one + b"\0" for one in expected]
