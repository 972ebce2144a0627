"""Deploying on a whole platform: from an upload to an answer, and what is left when something goes wrong."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography")

from tests.docs.blocks import ROOT
from tests.kit.platforms import TRAPS, Running, running, says


def test_a_deployment_answers_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            await platform.admin("PUT", "/tenants/acme", {})
            job = await platform.deploy("shop", says("one"), "shop.example.test")
            assert (job["success"], job["version"]) == (True, "1"), job
            assert (await platform.get("shop.example.test")).parts == [b"one"]
        async with running(tmp_path) as platform:
            assert (await platform.get("shop.example.test")).parts == [b"one"]
            assert (await platform.get("other.example.test")).status == 404

    asyncio.run(main())


def test_rolling_back_and_splitting(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            host, app = "shop.example.test", "/tenants/acme/apps/shop"
            await platform.deploy("shop", says("one"), host)
            await platform.deploy("shop", says("two"), None)
            assert (await platform.get(host)).parts == [b"two"]
            assert (await platform.admin("POST", app + "/rollback"))[0] == 200
            assert (await platform.get(host)).parts == [b"one"]
            job = await platform.deploy("shop", says("three"), None, activate=False)
            assert job["version"] == "3"
            assert (await platform.get(host)).parts == [b"one"]
            shares = [{"version": "1", "weight": 1}, {"version": "3", "weight": 1}]
            status, _ = await platform.admin("POST", app + "/activate", {"shares": shares})
            assert status == 200
            answers = {b"".join((await platform.get(host)).parts) for _ in range(64)}
            assert answers == {b"one", b"three"}
            _, told = await platform.admin("GET", app + "/versions")
            assert [(one["version"], one["weight"]) for one in told["versions"]] == [("3", 1), ("2", 0), ("1", 1)]
            assert (await platform.admin("DELETE", app + "/versions/1"))[0] == 409
            assert (await platform.admin("DELETE", app + "/versions/2"))[0] == 200

    asyncio.run(main())


def test_a_version_that_cannot_answer_is_not_activated_or_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            host = "shop.example.test"
            await platform.deploy("shop", says("one"), host)
            job = await platform.deploy("shop", TRAPS, None, health="/")
            assert not job["success"]
            assert "GET / was answered with 500: UNREACHABLE" in job["status"]
            job = await platform.deploy("shop", '(module (import "env" "hostcall_x" (func)) (func (export "run")))')
            assert not job["success"]
            assert "hostcall_x" in job["status"]
            job = await platform.deploy("shop", "(module", None)
            assert job["status"].startswith("app.wat:1:")
            assert (await platform.get(host)).parts == [b"one"]
            _, told = await platform.admin("GET", "/tenants/acme/apps/shop/versions")
            assert [one["version"] for one in told["versions"]] == ["1"]

    asyncio.run(main())


def test_assets_come_before_the_guest(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            files = {"app.wat": says("guest"), "assets/style.css": "p {}", "assets/big.bin": "x" * 200_000}
            job = await platform.deploy("shop", "", "shop.example.test", files=files)
            assert job["success"], job
            style = await platform.get("shop.example.test", "/style.css")
            assert (style.parts, dict(style.headers)[b"content-type"]) == ([b"p {}"], b"text/css")
            big = await platform.get("shop.example.test", "/big.bin")
            assert (len(b"".join(big.parts)), big.ended) == (200_000, True)
            assert (await platform.get("shop.example.test", "/style.css", "POST")).parts == [b"guest"]
            assert (await platform.get("shop.example.test", "/other")).parts == [b"guest"]

    asyncio.run(main())


@pytest.mark.parametrize("damage", [b"", b"nonsense", None], ids=["empty", "nonsense", "gone"])
def test_a_damaged_artifact_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            await platform.deploy("shop", says("one"), "shop.example.test")
        (artifact,) = [one for one in (tmp_path / "data" / "artifacts").rglob("*") if one.is_file()]
        artifact.unlink()  # not written over: it may still be mapped here, as a server maps it
        if damage is not None:
            artifact.write_bytes(damage)
        async with running(tmp_path) as platform:
            assert (await platform.get("shop.example.test")).parts == [b"one"]
        (module,) = [one for one in (tmp_path / "data" / "modules").rglob("*") if one.is_file()]
        module.write_bytes(b"nonsense")
        artifact.unlink()
        async with running(tmp_path) as platform:
            assert (await platform.get("shop.example.test")).status == 503

    asyncio.run(main())


def test_twenty_deployments_while_requests_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            for app in ("shop", "neighbour"):
                await platform.deploy(app, says(app), f"{app}.example.test")
            seen: dict[str, list[bytes]] = {"shop": [], "neighbour": []}
            over = False

            async def ask(app: str) -> None:
                while not over:
                    exchange = await platform.get(f"{app}.example.test")
                    assert exchange.status == 200, exchange.parts
                    seen[app].append(b"".join(exchange.parts))
                    await asyncio.sleep(0.001)

            async with asyncio.TaskGroup() as group:
                for app in seen:
                    group.create_task(ask(app))
                for number in range(20):
                    job = await platform.deploy("shop", says(f"version {number:02}"), None)
                    assert job["success"], job
                over = True
            assert set(seen["neighbour"]) == {b"neighbour"}
            told = [one for one in seen["shop"] if one != b"shop"]
            assert told == sorted(told)  # none after a later one has answered

    asyncio.run(main())


def test_one_tenants_flood_of_builds_lets_others_through(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            files = {"files": {"app.wat": says("x")}, "kind": "text"}
            answers = [await platform.admin("POST", f"/tenants/flood/apps/a{n}/deploy", files) for n in range(20)]
            statuses = [status for status, _ in answers]
            assert statuses == [202] * 17 + [429] * 3  # one runs, 16 wait
            job = await platform.deploy("shop", says("one"), "shop.example.test")
            assert job["success"], job
            _, last = await platform.admin("GET", f"/jobs/{answers[16][1]['job']}")
            assert not last["done"]

    asyncio.run(main())


def test_what_the_file_declares_is_deployed_once(tmp_path: Path) -> None:
    apps = "".join(f'[tenants.acme.apps.a{n}]\nmodule = "a.wat"\nroutes = ["a{n}.example.test"]\n' for n in range(20))

    async def main() -> None:
        (tmp_path / "a.wat").write_text(says("one"))
        for _ in range(2):
            async with running(tmp_path, apps) as platform:
                assert (await platform.get("a19.example.test")).parts == [b"one"]
                assert len(platform.platform.store.versions("acme", "a19")) == 1
        (tmp_path / "a.wat").write_text(says("two"))
        async with running(tmp_path, apps) as platform:
            assert (await platform.get("a19.example.test")).parts == [b"two"]

    asyncio.run(main())


def test_applications_expire_and_their_files_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            await platform.deploy("brief", says("one"), "brief.example.test", expires=time.time() + 1000)
            assert (await platform.get("brief.example.test")).status == 200
            await platform.admin("PATCH", "/tenants/acme/apps/brief", {"expires": time.time() - 1})
            assert (await platform.get("brief.example.test")).status == 404
            async with asyncio.timeout(60):
                while platform.platform.store.applications():
                    await asyncio.sleep(0.1)
            platform.platform.store.collect_garbage()
            assert not [one for one in (tmp_path / "data" / "modules").rglob("*") if one.is_file()]

    asyncio.run(main())


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.kit.platforms import running, says

async def main(folder, begin):
    async with running(folder) as platform:
        number = begin
        while True:
            job = await platform.deploy("shop", says(f"number {number:06}"), "shop.example.test")
            assert job["success"], job
            print(number, flush=True)
            number += 1

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_a_server_that_is_killed_while_it_deploys_loses_nothing(tmp_path: Path) -> None:
    moments = random.Random(3)
    number = 0

    async def answer() -> bytes:
        async with running(tmp_path) as platform:
            return b"".join((await platform.get("shop.example.test")).parts)

    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))},
        ) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline()]
            assert acknowledged[0], "the server did not begin"
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.readlines()
        last = int(acknowledged[-1])
        # The one after it may have been activated, and nobody was told.
        assert asyncio.run(answer()) in (b"number %06d" % last, b"number %06d" % (last + 1))
        number = last + 2
        assert not list((tmp_path / "data" / "scratch").iterdir())


def test_a_full_disk_is_told_and_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def deploy(platform: Running) -> dict[str, Any]:
        return await platform.deploy("shop", says("two"), None)

    async def main() -> None:
        async with running(tmp_path) as platform:
            await platform.deploy("shop", says("one"), "shop.example.test")
            with monkeypatch.context() as patched:
                patched.setattr("lucet.terrarium.blobs.write_durably", full)
                job = await deploy(platform)
            assert job["status"] == "the server's disk: No space left on device"
            assert (await platform.get("shop.example.test")).parts == [b"one"]
            assert (await deploy(platform))["success"]
            assert (await platform.get("shop.example.test")).parts == [b"two"]

    asyncio.run(main())
