"""Outgoing requests: what is allowed, and that nothing else reaches a server that stands for what must not be."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from lucet.terrarium import outgoing
from lucet.terrarium.http import (
    BytesBody,
    Headers,
    Outgoing,
    OutgoingFailed,
    OutgoingRefused,
    OutgoingRequest,
    OutgoingResponse,
    read_all,
)
from lucet.terrarium.limits import Limits
from lucet.terrarium.outgoing import Client
from lucet.terrarium.outgoing_rules import BadPattern, Rules, is_public

HERE = "127.0.0.0/8"
"""Where the test's own server is."""


class Names(AbstractResolver):
    """Names lead where the test says; those it does not name, here. A list is walked through."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.names.get(host, ["127.0.0.1"])
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@dataclass
class World:
    """A server, and what it has seen."""

    port: int
    client: Client
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def run(self, *patterns: str, limits: Limits | None = None) -> Outgoing:
        """P in a pattern is the server's port."""
        return self.client.outgoing([one.replace("P", str(self.port)) for one in patterns], limits or Limits())()

    def url(self, host: str, path: str = "/") -> str:
        return f"http://{host}:{self.port}{path}"


def world(
    test: Callable[[World], Awaitable[None]],
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None,
    names: dict[str, list[str]] | None = None,
    own: outgoing.Own | None = None,
) -> None:
    async def run() -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            it.seen.append(request)
            it.bodies.append(await request.read())
            return await handler(request) if handler else web.Response(text="reached", headers={"X-Seen": "yes"})

        server = web.ServerRunner(web.Server(handle))  # type: ignore[arg-type]
        await server.setup()
        site = web.TCPSite(server, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        it = World(port, Client(resolver=Names(names or {}), own=own))
        try:
            await test(it)
        finally:
            await it.client.close()
            await server.cleanup()

    asyncio.run(run())


async def get(
    run: Outgoing,
    url: str,
    *,
    method: str = "GET",
    headers: Headers | None = None,
    body: Any = b"",
    follow: bool = False,
) -> tuple[OutgoingResponse, bytes]:
    request = OutgoingRequest(method=method, url=url, headers=headers or [], body=body, follow_redirects=follow)
    try:
        response = await run.send(request)
        return response, await read_all(response.body, 1 << 30)
    finally:
        await run.close()


# ---- what it is for ----


def test_a_request() -> None:
    async def test(it: World) -> None:
        response, body = await get(
            it.run("http://there.test:P", HERE),
            it.url("there.test", "/a%20b/%2e?c=%64"),
            method="POST",
            headers=[(b"x-one", b"1"), (b"x-two", b"a"), (b"x-two", b"b"), (b"connection", b"upgrade")],
            body=b"mine",
        )
        assert (response.status, body) == (200, b"reached")
        assert (b"x-seen", b"yes") in response.headers
        (seen,) = it.seen
        assert (seen.method, seen.raw_path) == ("POST", "/a%20b/%2e?c=%64")  # to the byte
        assert seen.headers.getall("x-two") == ["a", "b"]
        assert it.bodies == [b"mine"]
        # Nothing is said that the guest has not said.
        assert set(seen.headers) == {"Host", "x-one", "x-two", "Content-Length"}
        assert seen.headers["Host"] == f"there.test:{it.port}"

    world(test)


def test_a_body_that_comes_in_parts() -> None:
    class Parts:
        length = None

        def __init__(self) -> None:
            self.parts = [b"one", b"two", b""]

        def at_once(self) -> bytes | None:
            return None

        async def read(self, limit: int = 65536, /) -> bytes:
            await asyncio.sleep(0)
            return self.parts.pop(0)

    class Known(BytesBody):
        def at_once(self) -> bytes | None:
            return None

    async def test(it: World) -> None:
        for body in (Parts(), Known(b"known")):
            await get(it.run("http://there.test:P", HERE), it.url("there.test"), method="PUT", body=body)
        assert it.bodies == [b"onetwo", b"known"]
        assert it.seen[0].headers["Transfer-Encoding"] == "chunked"
        assert it.seen[1].headers["Content-Length"] == "5"

    world(test)


def test_nothing_is_allowed_by_default() -> None:
    async def test(it: World) -> None:
        with pytest.raises(OutgoingRefused, match="is not allowed"):
            await get(it.run(), it.url("there.test"))
        with pytest.raises(OutgoingRefused, match="is not allowed"):
            await get(it.run(HERE), it.url("there.test"))  # an address alone allows no host
        assert not it.seen

    world(test)


@pytest.mark.parametrize(
    ("pattern", "url", "allowed"),
    [
        ("http://a.test", "http://a.test", True),
        ("http://a.test", "http://A.TEST.", True),
        ("http://A.test", "http://a.test:80", True),
        ("http://a.test", "http://a.test:8080", False),
        ("http://a.test", "https://a.test", False),
        ("http://a.test", "http://b.a.test", False),
        ("http://a.test", "http://aa.test", False),
        ("http://a.test:8080", "http://a.test:8080", True),
        ("http://a.test:8080", "http://a.test", False),
        ("http://a.test:*", "http://a.test:1", True),
        ("*://a.test", "https://a.test:443", True),
        ("*://a.test", "https://a.test:80", False),
        ("*://a.test", "http://a.test", True),
        ("https://*.a.test", "https://b.a.test", True),
        ("https://*.a.test", "https://c.b.a.test", True),
        ("https://*.a.test", "https://a.test", False),
        ("https://*.a.test", "https://.a.test", False),
        ("https://*.a.test", "https://xa.test", False),
        ("https://*.a.test", "https://a.test.evil.test", False),
        ("https://*", "https://anything.test", True),
        ("https://*", "http://anything.test", False),
        ("http://192.0.2.1", "http://192.0.2.1", True),
        ("http://192.0.2.1", "http://192.0.2.10", False),
        ("http://[2001:db8::1]", "http://[2001:db8:0::1]", True),
        ("*://*:*", "http://anything.test:9", True),
    ],
)
def test_patterns(pattern: str, url: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided before anything is looked up or connected to."""
    monkeypatch.setattr(outgoing, "CONNECT_TIME", 0.05)

    async def test(it: World) -> None:
        refused = False
        try:
            await get(it.run(pattern), url)
        except OutgoingRefused as error:
            refused = "is not allowed" in str(error)
        except OutgoingFailed:
            pass
        assert refused is not allowed

    # What is allowed leads to an address that is not.
    world(test, names={name: ["10.0.0.1"] for name in ("a.test", "b.a.test", "c.b.a.test", "anything.test")})


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "a.test", "http:/a.test", "ftp://a.test", "http://", "http://a.test/path", "http://u@a.test"),
        *("http://a.test:0", "http://a.test:65536", "http://a.test:x", "http://*a.test", "http://a.*.test"),
        *(
            "http://a..test",
            "http://*.",
            "http://[::1",
            "http://-a.test",
            "http://a.test\n",
            "10.0.0.1/8",
            "http://a b",
        ),
    ],
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(BadPattern, match="is"):
        Rules([pattern])


def test_limits() -> None:
    running = most = 0

    async def slow(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return web.Response(text="slow")

    async def test(it: World) -> None:
        limits = Limits(outgoing_requests=10, outgoing_concurrency=3)
        run = it.run("http://there.test:P", HERE, limits=limits)
        sending = [run.send(OutgoingRequest(method="GET", url=it.url("there.test"))) for _ in range(11)]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        await run.close()
        assert sum(isinstance(one, OutgoingResponse) for one in outcomes) == 10
        assert sum(isinstance(one, OutgoingRefused) for one in outcomes) == 1
        assert most <= 3
        # Each run has its own.
        assert (await get(it.run("http://there.test:P", HERE, limits=limits), it.url("there.test")))[0].status == 200

    world(test, slow)


def test_large_responses() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65536))
        except (ConnectionError, asyncio.CancelledError):
            return response

    async def test(it: World) -> None:
        limits = Limits(streamed_body=300_000)
        with pytest.raises(OutgoingFailed, match="too large"):
            await get(it.run("http://there.test:P", HERE, limits=limits), it.url("there.test"))

    world(test, endless)


def test_bombs_stay_what_they_are() -> None:
    """A gigabyte of zeros in a megabyte is a megabyte for the host."""
    bomb = gzip.compress(bytes(1 << 24))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async def test(it: World) -> None:
        response, body = await get(it.run("http://there.test:P", HERE), it.url("there.test"))
        assert body == bomb
        assert (b"content-encoding", b"gzip") in response.headers

    world(test, answer)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "SILENCE", 0.2)

    async def silence(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.sleep(2)
        return response

    for handler in (silence, half):

        async def test(it: World) -> None:
            with pytest.raises(OutgoingFailed, match="in time"):
                await get(it.run("http://there.test:P", HERE), it.url("there.test"))

        world(test, handler)


def test_nobody_is_there() -> None:
    async def test(it: World) -> None:
        with pytest.raises(OutgoingFailed):
            await get(it.run("http://there.test:1", HERE), "http://there.test:1/")

    world(test)


def test_a_response_that_is_none() -> None:
    async def test(it: World) -> None:
        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"this is not HTTP\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OutgoingFailed):
            await get(it.run(f"http://there.test:{port}", HERE), f"http://there.test:{port}/")
        server.close()

    world(test)


def test_connections_are_nobody_elses() -> None:
    """One application may connect to what another one may not: it must not find the other's connection open."""

    async def test(it: World) -> None:
        first = it.run("http://there.test:P", HERE)
        await get(first, it.url("there.test"))
        assert it.client.sessions
        with pytest.raises(OutgoingRefused, match="not public"):
            await get(it.run("http://there.test:P"), it.url("there.test"))
        assert len(it.seen) == 1

    world(test)


# ---- attacks ----


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[::1%25lo]",
        "127.0.0.1.",
        "127.0.0.%31",
        "%6c%6f%63alhost",
        "localhost",
        "LOCALHOST.",
        "①②⑦.0.0.1",
        "\N{FULLWIDTH DIGIT ONE}27.0.0.1",
        "127。0。0。1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "metadata.google.internal",
        "there.test@127.0.0.1",
        "there.test:80@127.0.0.1",
        "there.test\\@127.0.0.1",
        "127.0.0.1#@there.test",
        "127.0.0.1?@there.test",
    ],
)
def test_this_machine_in_disguise(host: str) -> None:
    """For an application that may send requests to every name there is, and every address that is public."""

    async def test(it: World) -> None:
        it.client.resolver = type(it.client.resolver)(  # type: ignore[call-arg]
            {"metadata.google.internal": ["169.254.169.254"]}
        )
        with pytest.raises((OutgoingRefused, OutgoingFailed)):
            await get(it.run("http://*:*"), it.url(host))
        assert not it.seen

    world(test)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "localhost"])
def test_the_systems_own_resolver(host: str) -> None:
    """Which reads numbers in all the ways there are."""

    async def test(it: World) -> None:
        client = Client()
        run = client.outgoing(["http://*:*"], Limits())()
        try:
            with pytest.raises((OutgoingRefused, OutgoingFailed)):
                await get(run, it.url(host))
        finally:
            await client.close()
        assert not it.seen

    world(test)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_names_that_lead_inside(address: str) -> None:
    async def test(it: World) -> None:
        with pytest.raises(OutgoingRefused, match="not public"):
            await get(it.run("http://there.test:P"), it.url("there.test"))
        assert not it.seen

    world(test, names={"there.test": [address]})


def test_a_name_that_changes_its_mind() -> None:
    """DNS rebinding: what was checked is what is connected to, each time."""

    async def once(request: web.Request) -> web.Response:
        response = web.Response()
        response.force_close()
        return response

    async def test(it: World) -> None:
        run = it.run("http://there.test:P", "127.0.0.1/32")
        await run.send(OutgoingRequest(method="GET", url=it.url("there.test")))
        with pytest.raises(OutgoingRefused, match=r"127\.0\.0\.2, which is not public"):
            await get(run, it.url("there.test"))
        assert len(it.seen) == 1

    world(test, once, names={"there.test": ["127.0.0.1", "127.0.0.2"]})


def test_the_address_that_is_connected_to_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the resolver's answer had not been looked at."""

    async def careless(self: Any, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        found: list[ResolveResult] = await self._session.client.resolver.resolve(host, port, family)
        return found

    monkeypatch.setattr(outgoing._Resolver, "resolve", careless)

    async def test(it: World) -> None:
        with pytest.raises(OutgoingRefused, match=r"127\.0\.0\.1, which is not public"):
            await get(it.run("http://there.test:P"), it.url("there.test"))
        assert not it.seen

    world(test)


def test_a_literal_address_that_is_allowed() -> None:
    """As it stands in the pattern, and not for names that lead there."""

    async def test(it: World) -> None:
        patterns = ("http://127.0.0.1:P", "http://there.test:P")
        assert (await get(it.run(*patterns), it.url("127.0.0.1")))[1] == b"reached"
        with pytest.raises(OutgoingRefused, match="not public"):
            await get(it.run(*patterns), it.url("there.test"))
        assert len(it.seen) == 1

    world(test)


def redirecting(to: str, status: int = 302) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def redirect(request: web.Request) -> web.Response:
        port = request.url.port
        if request.path == "/":
            return web.Response(status=status, headers={"Location": to.replace("P", str(port))})
        return web.Response(text=f"{request.method} {request.path}")

    return redirect


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:P/x", "//127.0.0.1:P/x", "http://inside.test:P/x", "http://other.test:P/x", "file:///x"]
)
def test_redirects_are_checked(to: str) -> None:
    async def test(it: World) -> None:
        run = it.run("http://there.test:P", "http://inside.test:P", "127.0.0.1/32")
        with pytest.raises(OutgoingRefused):
            await get(run, it.url("there.test"), follow=True)
        assert len(it.seen) == 1

    world(test, redirecting(to), names={"inside.test": ["127.0.0.2"]})


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_redirects(status: int, method: str) -> None:
    async def test(it: World) -> None:
        patterns = ("http://there.test:P", "http://other.test:P", HERE)
        secret = [(b"authorization", b"secret"), (b"cookie", b"secret"), (b"x", b"y"), (b"content-type", b"text/plain")]
        _, body = await get(
            it.run(*patterns), it.url("there.test"), method="POST", headers=secret, body=b"mine", follow=True
        )
        assert body == f"{method} /x".encode()
        last = it.seen[1]
        assert "Authorization" not in last.headers and "Cookie" not in last.headers
        assert last.headers["x"] == "y"
        assert it.bodies[1] == (b"mine" if method == "POST" else b"")
        assert ("Content-Type" in last.headers) is (method == "POST")
        response, _ = await get(it.run(*patterns), it.url("there.test"))
        assert response.status == status  # not followed unless that is asked for

    world(test, redirecting("http://other.test:P/x", status))


def test_redirects_without_end() -> None:
    async def test(it: World) -> None:
        with pytest.raises(OutgoingFailed, match="redirects"):
            await get(it.run("http://there.test:P", HERE), it.url("there.test"), follow=True)
        with pytest.raises(OutgoingRefused, match="one more"):
            limits = Limits(outgoing_requests=3)
            await get(it.run("http://there.test:P", HERE, limits=limits), it.url("there.test"), follow=True)

    world(test, redirecting("http://there.test:P/"))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"},
        {"method": ""},
        {"method": "CONNECT"},
        {"url": "http://there.test:P/\r\nX: y"},
        {"url": "http://there.test:P/ x"},
        {"url": "http://there.test:P/\0"},
        {"url": "http://there.test:P/\x7f"},
        {"url": "http://there.test:P/ä"},
        {"url": "http://there.test:99999/"},
        {"url": "http://there.test:x/"},
        {"url": "http://[there.test/"},
        {"url": "http:///there.test"},
        {"url": "/there.test"},
        {"url": "gopher://there.test/"},
        {"url": "http://there.test:P/" + "x" * 20000},
        {"url": "http://user:password@there.test:P/"},
        {"headers": [(b"x", b"a\r\ny: b")]},
        {"headers": [(b"x", b"a\nb")]},
        {"headers": [(b"x", b"a\0b")]},
        {"headers": [(b"x\r\ny", b"a")]},
        {"headers": [(b"x: y", b"a")]},
        {"headers": [(b"", b"a")]},
    ],
    ids=range(22),
)
def test_requests_that_are_none(change: dict[str, Any]) -> None:
    async def test(it: World) -> None:
        arguments = {"method": "GET", "url": it.url("there.test"), **change}
        arguments["url"] = arguments["url"].replace("P", str(it.port))
        with pytest.raises(OutgoingRefused):
            await it.run("http://there.test:*", HERE).send(OutgoingRequest(**arguments))
        assert not it.seen

    world(test)


@pytest.mark.parametrize(
    "header", [(b"transfer-encoding", b"chunked"), (b"Content-Length", b"4000"), (b"content-length", b"0")]
)
def test_smuggling(header: tuple[bytes, bytes]) -> None:
    """The length of a body is the host's to say."""

    async def test(it: World) -> None:
        run = it.run("http://there.test:P", HERE)
        await get(run, it.url("there.test"), method="POST", headers=[header], body=b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
        assert it.bodies == [b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"]

    world(test)


# ---- this server itself ----


def test_requests_to_this_server_need_no_socket() -> None:
    asked = []

    def own(request: OutgoingRequest) -> Awaitable[OutgoingResponse] | None:
        async def answer() -> OutgoingResponse:
            asked.append(request.url)
            return OutgoingResponse(status=200, headers=[], body=BytesBody(b"own"))

        return answer() if "own.test" in request.url else None

    async def test(it: World) -> None:
        patterns = ("http://own.test", "http://there.test:P", HERE)
        assert (await get(it.run(*patterns), "http://own.test/x"))[1] == b"own"
        assert (await get(it.run(*patterns), it.url("there.test")))[1] == b"reached"
        with pytest.raises(OutgoingRefused, match="is not allowed"):
            await get(it.run("http://other.test"), "http://own.test/x")
        assert asked == ["http://own.test/x"]

    world(test, own=own)


def test_applications_do_not_ask_each_other_without_end() -> None:
    depth = 0

    async def test(it: World) -> None:
        def own(request: OutgoingRequest) -> Awaitable[OutgoingResponse]:
            async def answer() -> OutgoingResponse:
                nonlocal depth
                depth += 1
                task = asyncio.create_task(it.run("http://own.test").send(request))  # as a guest's host function does
                return await task

            return answer()

        it.client.own = own
        with pytest.raises(OutgoingRefused, match="answer each other"):
            await get(it.run("http://own.test"), "http://own.test/")
        assert depth == outgoing.MAX_DEPTH

    world(test)


# ---- addresses ----


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::1111"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    (
        "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 "
        "192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 "
        ":: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::127.0.0.1 64:ff9b:1::1 "
        "100::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 2001:0:7f00:1:: fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 "
        "fec0::1 ff02::1 ff0e::1"
    ).split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
