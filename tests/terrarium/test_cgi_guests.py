"""CGI: programs in C, Rust, AssemblyScript, Go and JavaScript."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lucet
from lucet.terrarium.limits import Limits
from tests.kit import toolchains
from tests.kit.cgi import app
from tests.shared import shared_path

EXAMPLES = Path(__file__).parents[2] / "examples" / "terrarium"


def test_files_for_the_program(tmp_path: Path) -> None:
    source = tmp_path / "cat.c"
    source.write_text(
        """
        #include <stdio.h>
        #include <errno.h>
        int main(void) {
            char text[100];
            FILE *file = fopen("/data/a.txt", "r"), *other = fopen("/data/a.txt", "w");
            printf("Content-Type: text/plain\\n\\n%s%d", fgets(text, sizeof text, file), other != NULL);
            return 0;
        }"""
    )
    one = app(toolchains.c(source, tmp_path), configuration={"files": {"/data/a.txt": "contents"}})
    assert [one.get("/").body for _ in range(2)] == [b"contents0"] * 2


@pytest.mark.parametrize("language", ["c", "rs", "ts"])
def test_guests_from_other_languages(language: str, tmp_path: Path) -> None:
    builders: dict[str, Callable[[Path, Path], bytes]] = {
        "c": toolchains.c,
        "rs": toolchains.rust,
        "ts": toolchains.assemblyscript,
    }
    one = app(builders[language](EXAMPLES / f"hello_cgi.{language}", tmp_path))
    lines = [b"POST /shop/cart", b"argument: a=b", b"argument: c"]
    if language != "ts":
        lines.append(b"body: some text")
    answer = one.request("POST", "/shop/cart?a=b&c", b"some text", route="/shop/...")
    assert answer.status == 200, answer.body
    assert answer.header(b"content-type") == b"text/plain; charset=utf-8"
    assert answer.body.splitlines() == lines
    if language != "ts":
        assert answer.record.log_lines == ["9 bytes of body"]


def quickly(wasm: bytes) -> lucet.Module:
    """What is large is not optimised."""
    return lucet.Module.from_bytes(lucet.compile(wasm, opt_level="none"))


@pytest.mark.slow
def test_go(tmp_path: Path) -> None:
    module = quickly(toolchains.go(EXAMPLES / "hello_cgi.go", tmp_path))
    one = app(module, limits=Limits(cpu_time=60.0, memory=1 << 30))
    answer = one.request("POST", "/x?y=z", b"text")
    assert answer.status == 200, answer.record.log_lines
    assert answer.body == b"POST /x from 192.0.2.7:4711\nbody: text\n"
    moved = one.get("/old")
    assert (moved.status, moved.header(b"location")) == (301, b"/new")


SCRIPT = """
const asked = JSON.parse(readline());
print("Content-Type: application/json\\n");
print(JSON.stringify({sum: asked.reduce((a, b) => a + b), squares: asked.map(x => x ** 2)}));
"""


@pytest.mark.slow
def test_a_script_for_quickjs() -> None:
    module = quickly(shared_path("apps", "quickjs", "quickjs.wasm").read_bytes())
    configuration = {"files": {"/main.js": SCRIPT}, "cgi": {"argv": "qjs /main.js"}}
    answer = app(module, configuration=configuration, limits=Limits(cpu_time=60.0)).request("POST", "/", b"[1,2,3]\n")
    assert answer.status == 200, answer.record.log_lines
    assert json.loads(answer.body) == {"sum": 6, "squares": [1, 4, 9]}
