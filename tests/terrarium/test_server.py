"""The server: routing, versions, limits, tenants beside each other, and what it tells of itself."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import lucet
from lucet.terrarium import interfaces
from lucet.terrarium.catalogue import (
    AppKey,
    Application,
    Asset,
    Catalogue,
    Deployment,
    FilterUse,
    Listener,
    NotDeployed,
    Route,
    Snapshot,
)
from lucet.terrarium.config import Capacity
from lucet.terrarium.http import BytesBody, Headers, Request
from lucet.terrarium.limits import Limits
from lucet.terrarium.log import Log
from lucet.terrarium.server import Server
from tests.kit.terrarium import DictKeys, MemoryExchange, NoOutgoing


def saying(text: str) -> str:
    """A guest that answers with a text, whatever it is asked."""
    return f"""(module
      (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
      (memory 1) (data (i32.const 16) "{text}")
      (func (export "run") (drop (call $body (i32.const 0) (i32.const 16) (i32.const {len(text)})))))"""


def doing(code: str) -> str:
    return f"""(module
      (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
      (memory 1) (global $count (mut i32) (i32.const 0))
      (func (export "run") (local i64) {code}))"""


FOREVER = doing("(loop $again (br $again))")
SLOW = doing(
    """(local.set 0 (i64.const 100000000))
       (loop $again (br_if $again (i64.ne (i64.const 0) (local.tee 0 (i64.sub (local.get 0) (i64.const 1)))))
         (i32.store (i32.const 0) (i32.wrap_i64 (local.get 0))))"""
)
TRAPPING = doing("(unreachable)")

_modules: dict[str, lucet.Module] = {}


def module_of(text: str) -> lucet.Module:
    if text not in _modules:
        _modules[text] = lucet.Module.from_bytes(lucet.compile(text, opt_level="fast"))
    return _modules[text]


class Catalog(Catalogue):
    """Of modules in the text format. deploy() changes it as a store would."""

    def __init__(self) -> None:
        self.applications: dict[AppKey, Application] = {}
        self.deployments: dict[tuple[str, str, str], Deployment] = {}
        self.sources: dict[str, str] = {}
        self.listeners: list[Listener] = []
        self.revision = 0
        self.loads: list[str] = []

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(revision=self.revision, applications=dict(self.applications))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def deployment(self, tenant: str, application: str, version: str) -> Deployment:
        try:
            return self.deployments[tenant, application, version]
        except KeyError:
            raise NotDeployed(f"no version {version}") from None

    async def load(self, digest: str) -> lucet.Module:
        self.loads.append(digest)
        await asyncio.sleep(0)
        if digest not in self.sources:
            raise NotDeployed("its code is lost")
        return module_of(self.sources[digest])

    def deploy(
        self,
        application: str,
        *versions: tuple[str, str, int],
        tenant: str = "t",
        host: str = "*",
        path: str = "/",
        limits: Limits | None = None,
        changes: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """versions: (name, source, weight)."""
        self.revision += 1
        for name, source, _ in versions:
            digest = f"{hash(source)}"
            self.sources[digest] = source
            self.deployments[tenant, application, name] = Deployment(
                tenant=tenant,
                application=application,
                version=name,
                generation=self.revision,
                digest=digest,
                interface=interfaces.detect(module_of(source)).name,
                limits=limits or Limits(wall_time=120.0),
                **(changes or {}),
            )
        self.applications[tenant, application] = Application(
            tenant=tenant,
            name=application,
            routes=(Route(host=host, path=path),),
            shares=tuple((name, weight) for name, _, weight in versions),
            generation=self.revision,
            **fields,
        )
        self.tell((tenant, application))

    def tell(self, *keys: AppKey) -> None:
        for listener in tuple(self.listeners):
            listener(self.snapshot, frozenset(keys))


class Edge:
    """A server with a catalogue, to be asked."""

    def __init__(self, catalogue: Catalog, capacity: Capacity | None = None, **options: Any) -> None:
        self.catalogue = catalogue
        self.file = io.BytesIO()
        self.server = Server(
            catalogue,
            keys=lambda name, limits: DictKeys(),
            outgoing=lambda deployment: NoOutgoing,
            log=Log(self.file),
            capacity=capacity,
            **options,
        )

    async def get(self, target: str = "/", host: str = "a.test", headers: Headers | None = None) -> MemoryExchange:
        exchange = MemoryExchange(
            Request(
                method="GET",
                target=target,
                headers=headers or [],
                body=BytesBody(),
                host=host,
                client=("192.0.2.1", 1),
                traceparent=dict(headers or []).get(b"traceparent"),
            )
        )
        rest = self.server.handle(exchange)
        if rest is not None:
            await rest
        return exchange

    def lines(self) -> list[dict[str, Any]]:
        self.server.log.flush()
        return [json.loads(line) for line in self.file.getvalue().splitlines()]


def body(exchange: MemoryExchange) -> bytes:
    return b"".join(exchange.parts)


def run(test: Callable[[Edge, Catalog], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        catalogue = Catalog()
        edge = Edge(catalogue, **options)
        try:
            await test(edge, catalogue)
        finally:
            edge.server.close()
        assert edge.server.region.used == 0
        assert not catalogue.listeners

    asyncio.run(main())


def test_routes_by_host_and_path() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("one", ("1", saying("one"), 1), host="one.test")
        catalogue.deploy("sub", ("1", saying("sub"), 1), host="one.test", path="/sub")
        catalogue.deploy("any", ("1", saying("any"), 1), host="*.any.test")
        assert body(await edge.get(host="one.test")) == b"one"
        assert body(await edge.get("/sub/x?y", host="one.test")) == b"sub"
        assert body(await edge.get("/x/../sub", host="one.test")) == b"sub"
        assert body(await edge.get("/subway", host="one.test")) == b"one"
        assert body(await edge.get(host="b.any.test")) == b"any"
        assert (await edge.get(host="two.test")).status == 404
        assert (await edge.get("/..", host="one.test")).status == 400

    run(test)


def test_many_applications_are_neither_loaded_nor_slow_to_route() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        source = saying("many")
        module_of(source)
        for number in range(2000):
            catalogue.deploy(f"app{number}", ("1", source, 1), host=f"h{number}.test", tenant=f"t{number % 50}")
        assert not catalogue.loads
        assert body(await edge.get(host="h1234.test")) == b"many"
        assert len(catalogue.loads) == 1

    run(test)


def test_a_new_version_answers_what_comes_after_it() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        limits = Limits(cpu_time=60.0, wall_time=120.0)
        catalogue.deploy("app", ("1", SLOW, 1), limits=limits)
        first = asyncio.create_task(edge.get())
        while not edge.server.in_flight("t", "app", "1"):
            assert not first.done()
            await asyncio.sleep(0.001)
        catalogue.deploy("app", ("2", saying("two"), 1))
        assert body(await edge.get()) == b"two"
        assert (await first).status == 200
        assert edge.server.in_flight("t", "app", "1") == 0
        catalogue.deploy("app", ("1", saying("one"), 1))  # back
        assert body(await edge.get()) == b"one"
        del catalogue.applications["t", "app"]
        catalogue.tell(("t", "app"))
        assert (await edge.get()).status == 404

    run(test)


def test_requests_that_wait_for_code_get_it_although_there_is_newer() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", saying("one"), 1))
        first = asyncio.create_task(edge.get())
        await asyncio.sleep(0)
        assert edge.server._served["t", "app"].loading
        catalogue.deploy("app", ("2", saying("two"), 1))
        assert body(await edge.get()) == b"two"
        assert body(await first) == b"one"
        assert [one.deployment.version for one in edge.server._loaded] == ["2"]

    run(test)


def test_splits_stick() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", saying("one"), 3), ("2", saying("two"), 1), sticky="cookie:v")
        counts = {b"one": 0, b"two": 0}
        for _ in range(200):
            exchange = await edge.get()
            counts[body(exchange)] += 1
            assert exchange.added is not None
            cookie = exchange.added[0][1].split(b";")[0]
            again = await edge.get(headers=[(b"cookie", cookie)])
            assert body(again) == body(exchange) and again.added is None
        assert 100 < counts[b"one"] < 190

    run(test)


def test_faults_and_limits_are_told_and_end_their_own_request_only() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("trap", ("1", TRAPPING, 1), path="/trap")
        catalogue.deploy("loop", ("1", FOREVER, 1), path="/loop", limits=Limits(cpu_time=0.02))
        catalogue.deploy("wall", ("1", FOREVER, 1), path="/wall", limits=Limits(cpu_time=60.0, wall_time=0.1))
        catalogue.deploy("ok", ("1", saying("ok"), 1), path="/ok", tenant="other")
        tasks = [asyncio.create_task(edge.get(path)) for path in ("/trap", "/loop", "/wall", "/ok") * 3]
        answers = await asyncio.gather(*tasks)
        assert [answer.status for answer in answers] == [500, 503, 504, 200] * 3
        assert b"UNREACHABLE" not in body(answers[0])  # which is nobody's business
        lines = {line["application"]: line for line in edge.lines()}
        assert lines["trap"]["fault"].startswith("UNREACHABLE in ")
        assert lines["loop"]["limit"] == "cpu_time" and 0.02 <= lines["loop"]["cpu_us"] / 1e6 < 2
        assert lines["wall"]["limit"] == "wall_time"
        text = edge.server.metrics()
        assert 'lucet_requests_total{tenant="t",status="503"} 3' in text
        assert 'lucet_limits_total{tenant="t",limit="cpu_time"} 3' in text
        assert 'lucet_faults_total{tenant="t"} 3' in text
        assert 'lucet_requests_total{tenant="other",status="200"} 3' in text

    run(test)


def test_development_tells_the_cause() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("trap", ("1", TRAPPING, 1))
        exchange = await edge.get()
        assert exchange.status == 500
        assert b"UNREACHABLE" in body(exchange) and exchange.request.id.encode() in body(exchange)

    run(test, development=True)


def test_a_flooded_tenant_waits_in_its_own_queue() -> None:
    order: list[str] = []

    async def test(edge: Edge, catalogue: Catalog) -> None:
        limits = Limits(cpu_time=60.0, wall_time=600.0, concurrency=2, queue=50)
        catalogue.deploy("heavy", ("1", SLOW, 1), path="/heavy", tenant="flood", limits=limits)
        catalogue.deploy("light", ("1", saying("ok"), 1), path="/light", tenant="calm")
        await edge.get("/light")

        async def ask(path: str) -> int:
            exchange = await edge.get(path)
            order.append(path)
            return exchange.status

        flood = [asyncio.create_task(ask("/heavy")) for _ in range(60)]
        await asyncio.sleep(0)
        calm = [asyncio.create_task(ask("/light")) for _ in range(10)]
        assert await asyncio.gather(*calm) == [200] * 10
        statuses = await asyncio.gather(*flood)
        assert statuses.count(200) + statuses.count(503) == 60
        assert 8 <= statuses.count(503) <= 10  # 2 run, 50 wait
        # A request that needs nothing of what the tenant is out of does not wait behind them.
        heavy_before = order[: order.index("/light")].count("/heavy") - statuses.count(503)
        assert heavy_before <= 10

    run(test)


def test_memory_of_all_is_bounded() -> None:
    growing = doing("(drop (memory.grow (i32.const 100)))")
    sizes = []

    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("grow", ("1", growing, 1))
        await edge.get()
        sizes.append(edge.lines()[0]["memory"])

    run(test, capacity=Capacity(instances=10, memory=4 << 20))
    run(test, capacity=Capacity(instances=10, memory=16 << 20))
    assert sizes == [65536, 101 * 65536]


def test_code_that_is_lost_and_applications_out_of_service() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("lost", ("1", saying("lost"), 1), path="/lost")
        catalogue.sources.clear()
        assert (await edge.get("/lost")).status == 503
        catalogue.deploy("stopped", ("1", saying("x"), 1), path="/stopped", stopped=True)
        assert (await edge.get("/stopped")).status == 503
        catalogue.deploy("old", ("1", saying("x"), 1), path="/old", expires=1.0)
        assert (await edge.get("/old")).status == 404
        assert "not loaded" in [line.get("event") for line in edge.lines()]

    run(test)


def test_what_is_not_wanted_is_unloaded() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        for number in range(10):
            catalogue.deploy(f"a{number}", ("1", saying(f"{number}"), 1), path=f"/{number}")
            await edge.get(f"/{number}")
        assert len(edge.server._loaded) == 10
        edge.server._sweep()
        await edge.get("/7")
        edge.server._sweep()
        assert len(edge.server._loaded) == 3
        before = len(catalogue.loads)
        for number in range(10):
            assert body(await edge.get(f"/{number}")) == b"%d" % number
        assert len(catalogue.loads) == before + 7

    run(test, capacity=Capacity(loaded=3))


def test_trace_context_and_log_lines() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", saying("ok"), 1))
        trace = "0af7651916cd43dd8448eb211c80319c"
        given = f"00-{trace}-b7ad6b7169203331-01".encode()
        exchange = await edge.get('/a"b%22', headers=[(b"traceparent", given)])
        (shown,) = [value for name, value in exchange.request.headers if name == b"traceparent"]
        assert shown.startswith(b"00-" + trace.encode()) and shown.endswith(b"-01") and shown != given
        for bad in (b"", b"00-0-0-01", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", b"ff" + given[2:]):
            await edge.get(headers=[(b"traceparent", bad)])
        lines = edge.lines()
        assert [line.get("trace") for line in lines] == [trace, None, None, None, None]
        first = lines[0]
        assert first["status"] == 200 and first["tenant"] == "t" and first["version"] == "1"
        assert first["id"] == exchange.request.id and first["client"] == "192.0.2.1"
        assert edge.server.log_tail("t", "app", 2) == lines[-2:]

    run(test)


GUARD = """(module
  (import "http_handler" "get_config" (func $config (param i32 i32) (result i32)))
  (import "http_handler" "get_header_values" (func $values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "set_status_code" (func $status (param i32)))
  (import "http_handler" "set_header_value" (func $set (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1) (data (i32.const 0) "x-keyx-by")
  (func (export "handle_request") (result i64)
    (local $size i32)
    (local.set $size (call $config (i32.const 64) (i32.const 64)))
    (drop (call $values (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 128) (i32.const 64)))
    (if (i32.eq (i32.load8_u (i32.const 64)) (i32.load8_u (i32.const 128))) (then (return (i64.const 1))))
    (call $status (i32.const 401))
    (i64.const 0))
  (func (export "handle_response") (param i32 i32)
    (call $set (i32.const 1) (i32.const 5) (i32.const 4) (i32.const 0) (i32.const 5))))"""


def test_filters_stand_in_front_of_an_application() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        key: Headers = [(b"x-key", b"s")]
        catalogue.deploy("guard", ("1", GUARD, 1), host="nowhere.test")
        use = FilterUse(application="guard", configuration=b"secret")
        catalogue.deploy("a", ("1", saying("inside"), 1), changes={"filters": (use,)})
        denied, passed = await edge.get(), await edge.get(headers=key)
        assert (denied.status, body(denied)) == (401, b"")
        assert (passed.status, body(passed), passed.headers[-1]) == (200, b"inside", (b"x-by", b"x-key"))
        # A new version of the filter is in front of the next request.
        catalogue.deploy("guard", ("2", GUARD.replace("401", "403"), 1), host="nowhere.test")
        assert (await edge.get()).status == 403
        # A filter that is gone, or is none, keeps everybody out.
        catalogue.deploy("guard", ("3", saying("no filter"), 1), host="nowhere.test")
        assert (await edge.get(headers=key)).status == 503
        del catalogue.applications["t", "guard"]
        catalogue.tell(("t", "guard"))
        assert (await edge.get(headers=key)).status == 503

    run(test)


def test_log_output_is_bounded_by_request_and_by_time() -> None:
    talking = """(module
      (import "env" "hostcall_debug" (func $debug (param i32 i32)))
      (memory 1) (data (i32.const 16) "0123456789")
      (func (export "run") (call $debug (i32.const 16) (i32.const 10)) (call $debug (i32.const 16) (i32.const 10))))"""

    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", talking, 1), limits=Limits(wall_time=120.0, log_bytes=15, log_rate=11))
        begun = time.monotonic()
        for _ in range(200):
            await edge.get()
        lines = edge.lines()
        assert lines[0]["log"] == ["0123456789"] and lines[0]["log_lost_bytes"] == 11
        # One line of eleven bytes at once, and one in each second.
        assert sum("log" in line for line in lines) <= 2 + time.monotonic() - begun
        assert 'lucet_log_lost_bytes_total{tenant="t"} ' in edge.server.metrics()

    run(test)


def test_following_a_log() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", saying("ok"), 1))
        lines = edge.server.log_follow("t", "app")
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        exchange = await edge.get("/followed")
        line = await first
        assert line is not None and line["id"] == exchange.request.id
        await lines.aclose()

    run(test)


def test_assets_and_health_need_no_guest(tmp_path: Any) -> None:
    file = tmp_path / "style.css"
    file.write_bytes(b"body {}")
    asset = Asset(file=file, size=7, content_type="text/css", digest="d1")

    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("app", ("1", saying("ok"), 1), changes={"assets": {"/style.css": asset}, "health": True})
        assert body(await edge.get("/style.css")) == b"body {}"
        assert (await edge.get("/__health")).status == 200
        assert body(await edge.get("/other")) == b"ok"
        assert [line["instantiate_us"] > 0 for line in edge.lines()] == [False, False, True]

    run(test)


def test_a_local_redirect_is_routed_as_a_request() -> None:
    redirect = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\16\\00\\00\\00Location: /other?a=b\\n\\n")
      (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""

    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("redirect", ("1", redirect, 1), path="/redirect")
        catalogue.deploy("other", ("1", saying("other"), 1), path="/other")
        for _ in range(2):
            exchange = await edge.get("/redirect")
            assert (exchange.status, body(exchange)) == (200, b"other")
            assert exchange.request.target == "/other?a=b"
        catalogue.deploy("loop", ("1", redirect.replace("other?a=b", "loop?a=bb"), 1), path="/loop")
        assert (await edge.get("/loop")).status == 500
        del catalogue.applications["t", "other"]
        catalogue.tell(("t", "other"))
        assert (await edge.get("/redirect")).status == 404
        assert [line["application"] for line in edge.lines()] == ["redirect", "redirect", "loop", "redirect"]

    run(test)


def test_warming_finds_what_would_fail() -> None:
    async def test(edge: Edge, catalogue: Catalog) -> None:
        catalogue.deploy("ok", ("1", saying("ok"), 1))
        await edge.server.warm(catalogue.deployment("t", "ok", "1"))
        await edge.server.warm(catalogue.deployment("t", "ok", "1"), "/")
        catalogue.deploy("trap", ("1", TRAPPING, 1), path="/trap")
        deployment = catalogue.deployment("t", "trap", "1")
        await edge.server.warm(deployment)
        try:
            await edge.server.warm(deployment, "/")
        except NotDeployed as error:
            assert "500" in str(error) and "UNREACHABLE" in str(error)
        else:
            raise AssertionError("a guest that traps was warm")
        await refused(edge, replace(deployment, digest="unknown"))

    async def refused(edge: Edge, deployment: Deployment) -> None:
        try:
            await edge.server.warm(deployment)
        except NotDeployed:
            return
        raise AssertionError("code that there is not was warm")

    run(test)
