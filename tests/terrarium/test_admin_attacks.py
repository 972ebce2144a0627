"""The admin API and the original's: what they refuse, whatever type or size it has, and followers that go away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography")

import lucet.terrarium.server
from lucet.terrarium.deploy import Upload
from lucet.terrarium.sealed import private_file
from lucet.terrarium.untar import BadUpload, check_path, untar
from tests.kit.site import TOKEN, Site, site
from tests.terrarium.test_server import saying

APP = "/tenants/t/apps/a"


def run(folder: Path, test: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), site(folder) as one:
            await test(one)

    asyncio.run(main())


def test_from_an_upload_to_versions_and_back(tmp_path: Path) -> None:
    async def test(one: Site) -> None:
        for text in ("one", "two"):
            job = await one.deploy("a", saying(text), routes=["a.test"])
            assert job["success"], job
        status, found = await one.ask("GET", APP + "/versions")
        assert status == 200 and [(each["version"], each["weight"]) for each in found["versions"]] == [
            ("2", 1),
            ("1", 0),
        ]
        for expected in ("1", "2", "1"):  # a second time: forward again
            _, found = await one.ask("POST", APP + "/rollback", {})
            assert found["shares"] == [{"version": expected, "weight": 1}]
        shares = [{"version": "1", "weight": 1}, {"version": "2", "weight": 1}]
        assert (await one.ask("POST", APP + "/activate", {"shares": shares}))[0] == 200
        assert (await one.ask("DELETE", APP + "/versions/1"))[0] == 409
        assert not (await one.deploy("a", "(module"))["success"]

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PATCH", APP, b'{"expires": NaN}', 400),
        ("PATCH", APP, b'{"expires": Infinity}', 400),
        ("PATCH", APP, b'{"expires": true}', 400),
        ("PATCH", APP, b'{"expires": 1' + b"0" * 400 + b"}", 400),
        ("PATCH", APP, b'{"limits": {"wall_time": 1' + b"0" * 400 + b"}}", 400),
        ("PATCH", APP, b'{"limits": {"wall_time": NaN}}', 400),
        ("PATCH", APP, b'{"limits": {"memory": true}}', 400),
        ("PATCH", APP, b'{"routes": ["\\ud800"]}', 400),
        ("PATCH", APP, b'{"health": 1}', 400),
        ("PATCH", APP, b"[" * 100_000, 400),
        ("PATCH", APP, b'{"unknown": 1}', 400),
        ("POST", APP + "/drain", b'{"version": "1", "patience": NaN}', 400),
        ("POST", APP + "/drain", b'{"version": "1", "patience": 1' + b"0" * 400 + b"}", 400),
        ("POST", APP + "/activate", b'{"shares": [{"version": "1", "weight": true}]}', 400),
        ("POST", APP + "/activate", b'{"version": 1' + b"0" * 400 + b"}", 404),
        ("PUT", APP + "/configuration/-", b'{"A": "\\ud800"}', 400),
        ("POST", APP + "/deploy", b'{"files": {"../x": ""}}', 400),
        ("POST", APP + "/deploy", b'{"files": {"x": {"base64": "\\u00e9"}}}', 400),
        ("POST", APP + "/deploy", b'{"files": {%b}}' % b",".join(b'"%d": ""' % i for i in range(1001)), 400),
        ("GET", APP + "/logs?limit=" + "9" * 5000, None, 400),
        ("GET", "/tenants/..%2Ft", None, 400),
        ("GET", "/nothing", None, 404),
        ("PUT", APP + "/versions", b"{}", 405),
    ],
)
def test_what_is_refused(tmp_path: Path, method: str, path: str, body: bytes | None, status: int) -> None:
    async def test(one: Site) -> None:
        one.store.put_tenant("t")
        one.store.put_application("t", "a")
        found = await one.ask(method, path, body)
        assert found[0] == status, found
        assert "error" in found[1]
        assert (await one.ask(method, path, body, token="other"))[0] == 401

    run(tmp_path, test)


def test_an_expiry_is_set_whichever_way_it_is_given(tmp_path: Path) -> None:
    async def test(one: Site) -> None:
        one.store.put_tenant("t")
        for method, expires in (("PUT", 4e9), ("PUT", 5e9), ("PATCH", 6e9), ("PATCH", None)):
            assert (await one.ask(method, APP, {"expires": expires}))[0] == 200
            assert (await one.ask("GET", APP))[1]["expires"] == expires

    run(tmp_path, test)


def test_a_follower_that_goes_away_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lucet.terrarium.server, "_QUIET", 0.05)

    async def test(one: Site) -> None:
        await one.deploy("a", saying("x"), routes=["a.test"])
        reader, writer = await asyncio.open_connection("127.0.0.1", one.admin_port)
        head = f"GET /_admin/v1{APP}/logs/follow HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b": following\n\n")
        assert one.server.log._followers
        await reader.readuntil(b":\n\n")  # also when there is nothing new
        writer.close()
        while one.server.log._followers:
            await asyncio.sleep(0.01)

    run(tmp_path, test)


def test_closing_begins_nothing_of_what_waits(tmp_path: Path) -> None:
    async def test(one: Site) -> None:
        files = {"module.wat": saying("x").encode()}
        jobs = [
            one.deployer.submit(Upload(tenant=tenant, application=f"a{i}", kind="text", files=files))
            for i in range(5)
            for tenant in ("t", "u", "v")
        ]
        await asyncio.sleep(0)
        await one.deployer.close()
        await asyncio.sleep(0.05)
        assert not one.deployer._running
        assert {job.status for job in jobs} == {"the server is shutting down"}

    run(tmp_path, test)


def test_a_database_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    async def test(one: Site) -> None:
        await one.deploy("a", saying("x"), routes=["a.test"])
        one.server._served["t", "a"].only = None
        one.server._served["t", "a"].versions.clear()
        reader, one.store._reader = one.store._reader, sqlite3.connect(":memory:", isolation_level=None)
        try:
            assert (await one.ask("GET", APP))[0] == 507
            one.catalogue._look()
            client, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            assert (await client.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()
        finally:
            one.store._reader.close()
            one.store._reader = reader

    run(tmp_path, test)


@pytest.mark.parametrize("path", ["", "/x", "x//y", "./x", "../x", "x/..", "x\\y", "x\0", "x" * 256, "x\n"])
def test_paths_of_uploads(path: str) -> None:
    with pytest.raises(ValueError, match="not a relative path"):
        check_path(path)
    check_path("src/main.c")


def test_no_tar() -> None:
    with pytest.raises(BadUpload):
        untar(b"x" * 1024, 10)


def test_an_empty_token_is_none(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    with pytest.raises(lucet.LucetError, match="is empty"):
        private_file(path, lambda: "new")
