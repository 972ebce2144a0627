"""Routes: the most specific one is found, and nothing leads around a filter."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lucet.terrarium.http import BytesBody, Request
from lucet.terrarium.normal import BadTarget, decoded, normal_host, normal_path
from lucet.terrarium.router import Route, RouteError, Router


def request(target: str, host: str = "example.test") -> Request:
    return Request(method="GET", target=target, headers=[], body=BytesBody(), host=host)


def matched(router: Router[str], target: str, host: str = "example.test") -> str | None:
    route = router.match(request(target, host))
    return None if route is None else route.target


SHOP = Router(
    [
        Route(host="shop.test", target="shop"),
        Route(host="shop.test", path="/cart", target="cart"),
        Route(host="shop.test", path="/admin/...", target="admin"),
        Route(host="shop.test", path="/admin/logs/...", target="logs"),
        Route(host="*.test", path="/only", target="wildcard"),
        Route(host="*.deep.test", target="deep"),
        Route(path="/any/...", target="any"),
    ]
)


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("shop.test", "/", "shop"),
        ("shop.test", "/cart", "cart"),
        ("shop.test", "/cart?x=/admin", "cart"),
        ("shop.test", "/cart/", "shop"),
        ("shop.test", "/admin", "admin"),
        ("shop.test", "/admin/", "admin"),
        ("shop.test", "/admins", "shop"),
        ("shop.test", "/admin/logs", "logs"),
        ("shop.test", "/admin/logs/a/b/c/d", "logs"),
        ("shop.test", "/admin/log", "admin"),
        ("shop.test", "/any/x", "shop"),
        ("a.test", "/only", "wildcard"),
        ("a.b.test", "/only", "wildcard"),
        ("a.test", "/any/x", None),
        ("x.deep.test", "/only", "deep"),
        ("a.b.c.deep.test", "/x", "deep"),
        ("deep.test", "/only", "wildcard"),
        ("test", "/only", None),
        ("test", "/any", "any"),
        ("", "/any/", "any"),
        ("[::1]", "/any/thing", "any"),
        ("shop.test", "*", None),
    ],
)
def test_the_most_specific_host_then_the_longest_path(host: str, target: str, expected: str | None) -> None:
    assert matched(SHOP, target, host) == expected


@pytest.mark.parametrize(
    "target",
    [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%61%64min/%2e/x",
        "/x/%2e%2E/admin",
        "/x/.%2e/admin/",
        "/%2Fadmin",
        "/%2f%2Fadmin/x",
        "/admin%2Fx",
        "/admin%2flogs",
        "///x//..///admin",
        "/admin/x/../y",
        "/admin?/../..",
    ],
)
def test_no_spelling_of_a_path_leads_around_its_route(target: str) -> None:
    assert matched(SHOP, target, "shop.test") in {"admin", "logs"}


@pytest.mark.parametrize(
    "target", ["/admin/../x", "/admin/%2e%2e/x", "/admin//../x", "/adm/in", "/%2561dmin", "/x%3F/"]
)
def test_what_is_not_below_a_path_does_not_match_it(target: str) -> None:
    asked = request(target, "shop.test")
    route = SHOP.match(asked)
    assert route is not None
    assert route.target == "shop"
    assert ".." not in asked.target, "the guest sees the path that was matched"


@pytest.mark.parametrize(
    "target",
    [
        "/..",
        "/a/../../b",
        "/%2e%2e",
        "/admin%2F..%2Fx",
        "/x%2f%2e%2e/admin",
        "/x/..%5Cadmin",
        "/a\\..\\admin",
        "/admin#",
        "/a%00",
        "/a%0d%0aX: y",
        "/a b",
        "/a\r\n",
        "/%",
        "/%4",
        "/%zz",
        "/a%7F",
        "/\u4e2d",
        "",
        "http://x/",
    ],
)
def test_what_has_no_plain_meaning_is_refused(target: str) -> None:
    with pytest.raises(BadTarget):
        SHOP.match(request(target, "shop.test"))


@pytest.mark.parametrize(
    ("target", "normal", "key"),
    [
        ("/a/b?q=%61/../", "/a/b?q=%61/../", "/a/b"),
        ("/.well-known/x", "/.well-known/x", "/.well-known/x"),
        ("/...", "/...", "/..."),
        ("/%7euser/%e4%B8%ad", "/~user/%E4%B8%AD", "/~user/中"),
        ("/ä|{}", "/%E4%7C%7B%7D", "/\udce4|{}"),
        ("/@scope%2fpackage", "/@scope%2Fpackage", "/@scope/package"),
        ("/a/b/..", "/a/", "/a/"),
        ("/a/..", "/", "/"),
        ("/a/./", "/a/", "/a/"),
        ("//", "/", "/"),
        ("/a%2525", "/a%2525", "/a%25"),
        ("/a;b=c,d!$&'()*+:@", "/a;b=c,d!$&'()*+:@", "/a;b=c,d!$&'()*+:@"),
    ],
)
def test_normal_form(target: str, normal: str, key: str) -> None:
    asked = request(target)
    Router([Route(target="x")]).match(asked)
    assert asked.target == normal
    assert normal_path(asked.path) == (asked.path, key)


@given(st.text(st.sampled_from("/.%25fFeE2aA\\?")))
@example("/a%2F%2Fb/")
@example("/%2f../a")
def test_the_normal_form_is_one(path: str) -> None:
    try:
        normal, key = normal_path("/" + path)
    except BadTarget:
        return
    assert normal_path(normal) == (normal, key), "the normal form of a normal form is itself"
    assert decoded(normal) == key
    assert "//" not in key
    assert not {".", ".."} & set(key.split("/"))
    again = unquote(normal).replace("//", "/")
    assert not {".", ".."} & set(again.split("/")), "a guest that decodes sees no dots either"


HOSTS = ["", "*", "a.test", "b.test", "x.a.test", "*.test", "*.a.test", "*.x.a.test"]
SEGMENTS = ["a", "b", "admin", "%61", "a%2Fb", "ä"]
PATHS = st.lists(st.sampled_from(SEGMENTS), max_size=3).map(lambda parts: "/" + "/".join(parts))
PATTERNS = st.tuples(PATHS, st.booleans()).map(lambda p: f"{p[0].removesuffix('/')}/..." if p[1] else p[0])


def linear(routes: list[Route[int]], host: str, path: str) -> Route[int] | None:
    """The rule, as simply as it can be said."""

    def specificity(pattern: str) -> int:
        if pattern in {"", "*"}:
            return 0
        if pattern.startswith("*."):
            return len(pattern) if host.endswith(pattern[1:]) else -1
        return 1000 if pattern == host else -1

    def length(pattern: str) -> int:
        text = unquote(pattern.removesuffix("/..."))
        if not pattern.endswith("/..."):
            return 1000 if text == path else -1
        return len(text) if path == text or path.startswith(text + "/") else -1

    best = max((specificity(route.host) for route in routes), default=-1)
    fitting = [route for route in routes if specificity(route.host) == best >= 0 and length(route.path) >= 0]
    return max(fitting, key=lambda route: length(route.path), default=None)


@given(st.data())
def test_as_the_linear_matcher(data: st.DataObject) -> None:
    patterns = data.draw(st.lists(st.tuples(st.sampled_from(HOSTS), PATTERNS), max_size=12))
    unique = {(host.removeprefix("*"), unquote(path)): (host, path) for host, path in patterns}
    routes = [Route(host=host, path=path, target=number) for number, (host, path) in enumerate(unique.values())]
    router = Router(routes)
    assert sorted(route.target for route in router.routes) == list(range(len(routes)))
    for _ in range(10):
        host = data.draw(st.sampled_from(["a.test", "b.test", "x.a.test", "y.x.a.test", "c.test", "test", "other", ""]))
        path = data.draw(PATHS)
        trailing = data.draw(st.sampled_from(["", "/"])) if path != "/" else ""
        asked = request(quote(path, safe="/%") + trailing, host)
        assert router.match(asked) == linear(routes, host, unquote(path) + trailing)


def test_the_routes_of_a_host_change_in_another_router() -> None:
    new = SHOP.with_host("Shop.Test.", [Route(host="shop.test", path="/new/...", target="new")])
    assert matched(new, "/new/x", "shop.test") == "new"
    assert matched(new, "/cart", "shop.test") is None
    assert matched(SHOP, "/cart", "shop.test") == "cart"
    without = new.with_host("shop.test", []).with_host("*.deep.test", []).with_host("*", [])
    assert matched(without, "/only", "shop.test") == "wildcard"
    assert matched(without, "/only", "x.deep.test") == "wildcard"
    assert matched(without, "/any", "x") is None
    with pytest.raises(RouteError, match="is not one of the host"):
        SHOP.with_host("shop.test", [Route(host="other.test", target="x")])


def test_the_matched_route_is_noted() -> None:
    asked = request("/admin/logs/x", "shop.test")
    SHOP.match(asked)
    assert asked.route == "/admin/logs/..."


@pytest.mark.parametrize(
    "route",
    [
        Route(path="admin", target=""),
        Route(path="", target=""),
        Route(path="/a//b", target=""),
        Route(path="/a/../b", target=""),
        Route(path="/a/.", target=""),
        Route(path="/.../b", target=""),
        Route(path="/a%zz", target=""),
        Route(host="a:80", target=""),
        Route(host="*.", target=""),
        Route(host="a.*.b", target=""),
        Route(host="*x.test", target=""),
        Route(host="a b", target=""),
        Route(host="[::1]:80", target=""),
    ],
)
def test_routes_that_are_none(route: Route[str]) -> None:
    with pytest.raises(RouteError):
        Router([route])


@pytest.mark.parametrize(
    "pair",
    [
        (Route(target=1), Route(host="*", target=2)),
        (Route(host="A.test", path="/x", target=1), Route(host="a.test.", path="/%78", target=2)),
    ],
)
def test_the_same_route_twice(pair: tuple[Route[int], Route[int]]) -> None:
    with pytest.raises(RouteError, match="two routes for"):
        Router(pair)


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Example.TEST", "example.test"),
        ("example.test:8080", "example.test"),
        ("example.test.", "example.test"),
        ("example.test.:", "example.test"),
        ("my_app.local", "my_app.local"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[0:0::0001]:443", "[::1]"),
        ("", ""),
    ],
)
def test_hosts(host: str, normal: str) -> None:
    assert normal_host(host) == normal
    assert normal_host(normal) == normal


@pytest.mark.parametrize(
    "host",
    ["a b", "a/b", "user@a", "a:b", "a:80:90", "[::1", "[::1]x", "[::g]", "[fe80::1%eth0]", "::1", "a..b", ".", ".a",
     "\u212aelvin", "ä.test", "a\r\n", "a" * 300, ":80", "*.a"],
)  # fmt: skip
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(BadTarget):
        normal_host(host)


def test_names_beyond_ascii() -> None:
    router = Router([Route(host="bücher.test", path="/über/...", target="x")])
    assert matched(router, "/%C3%BCber/uns", "xn--bcher-kva.test") == "x"
    assert matched(router, "/Ã¼ber", "xn--bcher-kva.test") == "x", "octets as they come from the wire"


def test_long_paths_and_hosts_cost_no_more_than_their_length() -> None:
    deep = Router([Route(host="*.a.test", path="/a/a/...", target="x")])
    assert matched(deep, "/a" * 30000, "a." * 100 + "a.test") == "x"
