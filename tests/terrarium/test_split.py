"""Splits: shares as asked for, and each client keeps what it got."""

from __future__ import annotations

from collections import Counter

import pytest

from lucet.terrarium.http import BytesBody, Headers, Request
from lucet.terrarium.split import Split


def request(headers: Headers | None = None, client: str = "192.0.2.1", scheme: str = "http") -> Request:
    return Request(
        method="GET", target="/", headers=headers or [], body=BytesBody(), client=(client, 4711), scheme=scheme
    )


WEIGHTS = [("a", 70.0), ("b", 20.0), ("none", 0.0), ("c", 10.0)]


def chi_squared(counts: Counter[str], total: int) -> float:
    expected = {name: share / 100 * total for name, share in WEIGHTS if share}
    return sum((counts[name] - count) ** 2 / count for name, count in expected.items())


def test_shares() -> None:
    split = Split(WEIGHTS, "header:X-User", salt="fixed")
    total = 50_000
    counts = Counter(split.choose(request([(b"x-user", b"%d" % user)]))[0] for user in range(total))
    assert set(counts) == {"a", "b", "c"}
    # Two degrees of freedom: 13.8 has a probability of 1 in 1000. The users are always the same, and so is the result.
    assert chi_squared(counts, total) < 13.8


def test_without_a_key_each_request_anew() -> None:
    split = Split(WEIGHTS)
    counts = Counter(split.choose(request())[0] for _ in range(20_000))
    assert set(counts) == {"a", "b", "c"}
    assert chi_squared(counts, 20_000) < 60  # by chance once in 10**13 runs


@pytest.mark.parametrize(
    ("sticky", "one"),
    [
        ("client", {"client": "2001:db8::1"}),
        ("header:X-User", {"headers": [(b"x-user", b"7")]}),
        ("cookie:ab", {"headers": [(b"cookie", b"x=ab=; ab=7; y=1")]}),
    ],
)
def test_the_same_gets_the_same(sticky: str, one: dict[str, object]) -> None:
    chosen = {Split(WEIGHTS, sticky, salt=f"{n}").choose(request(**one)) for n in range(100)}  # type: ignore[arg-type]
    assert {target for target, _ in chosen} == {"a", "b", "c"}, "the salt decides"
    split = Split(WEIGHTS, sticky, salt="s")
    assert len({split.choose(request(**one)) for _ in range(20)}) == 1  # type: ignore[arg-type]
    assert split.choose(request(**one))[1] is None  # type: ignore[arg-type]


def test_a_client_without_the_cookie_gets_one_that_keeps_its_target() -> None:
    split = Split(WEIGHTS, "cookie:ab")
    seen = set()
    for _ in range(200):
        target, cookie = split.choose(request([(b"cookie", b"abc=1; ab=")]))
        assert cookie is not None
        pair, *attributes = cookie.split(b"; ")
        assert attributes == [b"Path=/", b"Max-Age=2592000", b"HttpOnly", b"SameSite=Lax"]
        assert split.choose(request([(b"cookie", b"x=y; " + pair)])) == (target, None)
        seen.add(target)
    assert seen >= {"a", "b"}
    _, cookie = split.choose(request(scheme="https"))
    assert cookie is not None
    assert cookie.endswith(b"; Secure")


def test_a_network_of_ipv6_is_one_client() -> None:
    split = Split([("a", 1), ("b", 1)], "client")
    assert len({split.choose(request(client=f"2001:db8:1:2::{n:x}"))[0] for n in range(64)}) == 1
    assert len({split.choose(request(client=f"2001:db8:1:{n:x}::1"))[0] for n in range(64)}) == 2
    assert len({split.choose(request(client=f"192.0.2.{n}"))[0] for n in range(64)}) == 2
    assert len({split.choose(request(client="unix:"))[0] for n in range(8)}) == 1


def test_without_the_header_the_address_decides() -> None:
    split = Split([("a", 1), ("b", 1)], "header:X-User")
    by_address = Split([("a", 1), ("b", 1)], "client")
    for n in range(32):
        asked = request(client=f"192.0.2.{n}")
        assert split.choose(asked) == by_address.choose(asked)


def test_a_share_that_grows_keeps_its_clients() -> None:
    small, large = (Split([("old", 100 - new), ("new", new)], "client", salt="x") for new in (10, 30))
    clients = [request(client=f"10.0.{n >> 8}.{n & 255}") for n in range(2000)]
    before = [one.client for one in clients if small.choose(one)[0] == "new"]
    after = {one.client for one in clients if large.choose(one)[0] == "new"}
    assert before
    assert set(before) < after


@pytest.mark.parametrize(
    ("weights", "sticky"),
    [
        ([], None),
        ([("a", 0)], None),
        ([("a", 1), ("b", -1)], None),
        ([("a", float("nan"))], None),
        ([("a", float("inf"))], None),
        ([("a", 1)], "cookie:"),
        ([("a", 1)], "cookie:a b"),
        ([("a", 1)], "header:a\r\nb"),
        ([("a", 1)], "client:x"),
        ([("a", 1)], "moon"),
    ],
)
def test_splits_that_are_none(weights: list[tuple[str, float]], sticky: str | None) -> None:
    with pytest.raises(ValueError, match=r"weights|sticky|no name"):
        Split(weights, sticky)
