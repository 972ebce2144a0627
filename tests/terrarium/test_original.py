"""The first Terrarium's API, asked as its command-line client asked; and tars that are no uploads."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography")

from lucet.terrarium.http import BodyTooLarge
from lucet.terrarium.untar import BadUpload, untar
from tests.kit.platforms import Running, running, says

HOST = "deploy.example.test"


def tar_of(files: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def member_of(name: str, kind: bytes, link: str = "", data: bytes = b"") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(data)
    return member.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


async def ask(platform: Running, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    exchange = await platform.get(HOST, path, method, b"" if body is None else json.dumps(body).encode())
    return exchange.status, json.loads(b"".join(exchange.parts))


async def deployed(platform: Running, language: str, files: dict[str, bytes]) -> tuple[dict[str, Any], list[str]]:
    """What the client sees last, and the messages before."""
    tar = base64.b64encode(tar_of(files)).decode().rstrip("=")
    status, answer = await ask(platform, "POST", "/deploy", {"lang": language, "options": None, "tar": tar})
    assert (status, answer["success"]) == (200, True), answer
    messages: list[str] = []
    async with asyncio.timeout(120):
        while True:
            status, told = await ask(platform, "GET", f"/status/{answer['id']}")
            assert status == 200
            if told["done"]:
                return told, messages
            if told["message"] not in messages:
                messages.append(told["message"])
            await asyncio.sleep(0)


def test_a_deployment_as_the_client_makes_it(tmp_path: Path) -> None:
    order = [
        "Upload complete, waiting for build...",
        "Building...",
        "Generating machine code...",
        "Codegen complete...",
        "Deploying...",
    ]

    async def main() -> None:
        async with running(tmp_path) as platform:
            files = {"src/main.wat": says("hello").encode(), "assets/style.css": b"p {}"}
            told, messages = await deployed(platform, "wat", files)
            assert told["success"], told
            assert messages == [one for one in order if one in messages]
            assert messages[0] in order[:2]
            said, _, url = told["message"].partition(": ")
            assert said == "Deploy complete"
            host = url.removeprefix("https://").removesuffix("/")
            assert host.endswith(".apps.example.test")
            assert len(host.partition(".")[0].split("-")) == 4
            assert (await platform.get(host)).parts == [b"hello"]
            assert (await platform.get(host, "/style.css")).parts == [b"p {}"]
            health = await platform.get(host, "/__health")
            assert health.status == 200
            assert health.parts != [b"hello"]
            (application,) = platform.platform.store.applications().values()
            assert application.tenant == "terrarium"
            assert application.expires is not None

    asyncio.run(main())


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as platform:
            told, _ = await deployed(platform, "wat", {"main.wat": b"(module\n  (func (export 3)))"})
            assert (told["success"], told["done"]) == (False, True)
            assert "main.wat:2:" in told["message"]
            bodies: list[Any] = [[], {}, {"lang": "cobol", "tar": ""}, {"lang": "c", "tar": "?"}]
            for body in [*bodies, {"lang": "c", "tar": "AAAA"}]:
                status, answer = await ask(platform, "POST", "/deploy", body)
                assert (status, answer["success"]) == (400, False), body
            assert (await ask(platform, "GET", "/status/none"))[0] == 404
            assert (await ask(platform, "PUT", "/deploy"))[0] == 405

    asyncio.run(main())


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_all_kinds(kind: int) -> None:
    files = {"a.c": b"x", "src/" + "d/" * 60 + "long.c": b"y" * 600, "empty": b""}
    assert untar(tar_of(files, kind), 10_000) == files
    assert untar(tar_of({"./a.c": b"x"}, kind), 10) == {"a.c": b"x"}


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../b", "a//b", "a\\b", "a\nb", "a/./b", "x/" + "y" * 300])
def test_paths_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(BadUpload, match="not a relative path"):
        untar(tar_of({name: b"x"}, tarfile.GNU_FORMAT), 100)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_what_is_no_file(kind: bytes) -> None:
    with pytest.raises(BadUpload, match="'a' is no file"):
        untar(member_of("a", kind, "/etc/passwd"), 100)


def test_too_much() -> None:
    with pytest.raises(BodyTooLarge):
        untar(tar_of({"a": b"x" * 60, "b": b"x" * 60}), 100)
    with pytest.raises(BadUpload, match="more than 1000 members"):
        untar(tar_of({f"f{n}": b"" for n in range(1001)}), 100)
    # One header that names the next, and so on: Python's own reader follows these by recursion.
    with pytest.raises(BadUpload, match="more than 1000 members"):
        untar(member_of("././@LongLink", b"L", data=b"name\0") * 5000, 100)
    with pytest.raises(BadUpload, match="more than 65536 bytes"):
        untar(member_of("././@LongLink", b"L", data=b"n" * 70_000), 100)


def test_numbers_that_lie() -> None:
    header = bytearray(member_of("a", b"0"))
    for size in (b"-0000000001\0", b"\xff" * 12, b"\x80" + b"\0" * 10 + b"\1", b"77777777777\0"):
        header[124:136] = size
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header[:512])
        with pytest.raises(BadUpload, match="not a tar"):
            untar(bytes(header), 100)
    with pytest.raises(BadUpload, match="a header's sum is wrong"):
        untar(b"x" + tar_of({"a": b""})[1:], 100)
    for records in (b"0 path=x\n", b"99 path=x\n", b"path=x\n", b"9 size=1\n\n", b"-1 a=b\n"):
        with pytest.raises(BadUpload):
            untar(member_of("pax", b"x", data=records) + member_of("a", b"0"), 100)


def test_noise_is_refused_and_nothing_else_happens() -> None:
    chance = random.Random(5)
    whole = tar_of({"a.c": b"x" * 700, "long/" * 30 + "b.c": b"y"}, tarfile.PAX_FORMAT)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            untar(bytes(data[: chance.randrange(len(data) + 1)]), 10_000)
        except (BadUpload, BodyTooLarge):
            continue
