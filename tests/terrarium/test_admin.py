"""The admin API: who may, what is refused and how, and that its description is what there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography")

from lucet.terrarium.admin import PREFIX
from tests.kit.platforms import running, says

APP = "/tenants/acme/apps/shop"


def test_only_with_the_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            for token in ("", "wrong", "the-token2", "the-toke", "\xff"):
                assert (await platform.admin("GET", "/tenants", token=token))[0] == 401
            assert await platform.admin("GET", "/tenants") == (200, {"tenants": []})

    asyncio.run(main())


def test_everything_that_is_described_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            _, described = await platform.admin("GET", "/openapi.json")
            assert described["openapi"] == "3.1.0"
            assert PREFIX + "/tenants/{tenant}/apps/{app}/rollback" in described["paths"]
            for path, methods in described["paths"].items():
                plain = path.removeprefix(PREFIX).replace("{tenant}", "nobody").replace("{app}", "nothing")
                for name in ("{store}", "{key}", "{version}", "{job}"):
                    plain = plain.replace(name, "x")
                for method in methods:
                    if plain.endswith("/deploy") or (plain, method) == ("/tenants/nobody", "put"):
                        continue
                    if plain == "/metrics":  # is no JSON
                        continue
                    body = {"version": "1"} if "activate" in plain else None
                    status, answer = await platform.admin(method.upper(), plain, body)
                    if "nobody" in plain or "x" in plain.split("/"):
                        assert status in (400, 404), (method, path, status, answer)
                        assert answer["error"]
                    else:
                        assert status == 200, (method, path, answer)
                assert (await platform.admin("BREW", plain))[0] == 405

    asyncio.run(main())


def test_settings_secrets_and_keys(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            assert (await platform.admin("PUT", "/tenants/acme", {"limits": {"concurrency": 3}}))[0] == 200
            assert (await platform.deploy("shop", says("one"), "shop.example.test"))["success"]
            assert (await platform.admin("PATCH", APP, {"limits": {"cpu_time": "20 ms"}}))[0] == 200
            assert (await platform.admin("PUT", APP + "/secrets/keys", {"token": "hunter2"}))[0] == 200
            assert await platform.admin("GET", APP + "/secrets") == (200, {"keys": ["token"]})
            assert (await platform.admin("PUT", APP + "/configuration/-", {"A": "b"}))[0] == 200
            deployment = platform.platform.store.deployment("acme", "shop", "1")
            assert (deployment.limits.cpu_time, deployment.limits.concurrency) == (0.02, 3)
            assert deployment.secrets == {"keys": {"token": b"hunter2"}}
            assert deployment.configuration == {"": {"A": "b"}}
            assert (await platform.admin("POST", APP + "/stop"))[0] == 200
            assert (await platform.get("shop.example.test")).status == 503
            assert (await platform.admin("POST", APP + "/start"))[0] == 200
            assert (await platform.get("shop.example.test")).status == 200
            assert (await platform.admin("DELETE", "/tenants/acme"))[0] == 200
            assert (await platform.get("shop.example.test")).status == 404

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PUT", "/tenants/Acme", {}, 400, "tenant"),
        ("PUT", "/tenants/acme", {"limits": {"cpu_time": -1}}, 400, "limits.cpu_time"),
        ("PUT", "/tenants/acme", {"limit": {}}, 400, "limit"),
        ("PUT", APP, {"routes": ["a:80"]}, 400, "routes[0].host"),
        ("PUT", APP, {"routes": "a"}, 400, "routes"),
        ("PUT", APP, {"limits": {"queue": 1}}, 400, "limits.queue"),
        ("PUT", APP, {"filters": [{"application": "x", "more": 1}]}, 400, "filters[0].more"),
        ("PUT", APP, {"expires": True}, 400, "expires"),
        ("POST", APP + "/deploy", {"kind": "cobol", "files": {}}, 400, "kind"),
        ("POST", APP + "/deploy", {"files": {"../a": ""}}, 400, "files"),
        ("POST", APP + "/deploy", {"files": {"a": {"base64": "?"}}}, 400, "files.a"),
        ("POST", APP + "/deploy", {"files": {"a": 3}}, 400, "files.a"),
        ("POST", APP + "/activate", {"shares": [{"version": "1", "weight": 0}]}, 400, "shares[0].weight"),
        ("POST", APP + "/activate", {"version": "1", "sticky": "moon"}, 400, "sticky"),
        ("POST", APP + "/activate", {}, 400, "shares"),
        ("PUT", APP, [], 400, None),
        ("GET", "/nothing", None, 404, None),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, method: str, path: str, body: object, status: int, field: str | None
) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            platform.platform.store.put_tenant("acme")
            got, answer = await platform.admin(method, path, body)
            assert (got, answer.get("field")) == (status, field), answer
            assert answer["error"]
            assert platform.platform.store.applications() == {}

    asyncio.run(main())
