"""Builds: what uploads in each language become, and what hostile ones do not get at."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

import lucet
from lucet.terrarium.build import Toolchains
from lucet.terrarium.compiling import BuildFailed, Compiled, Compiler
from lucet.terrarium.config import Build
from lucet.terrarium.jail import Jail, JailFailed, JailLimits, JailRequest, JailResult, run_confined
from tests.docs.blocks import ROOT
from tests.kit.terrarium import App

T = TypeVar("T")
EXAMPLES: Final = ROOT / "examples" / "terrarium"
HELLO: Final = (EXAMPLES / "hello.wat").read_bytes()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def compiled(module: bytes, name: str = "module", level: str = "fast", **settings: Any) -> Compiled:
    return run(Compiler(**settings).compile(module, level, name))


def refused(module: bytes, name: str = "module", **settings: Any) -> str:
    with pytest.raises(BuildFailed) as caught:
        compiled(module, name, **settings)
    return str(caught.value)


def build(directory: Path, kind: str, files: dict[str, bytes], **settings: Any) -> tuple[Compiled, str]:
    """What became of it, and what the compiler said."""
    said: list[str] = []

    async def main() -> Compiled:
        jail = Jail(directory / "scratch")
        wasm = await Toolchains(directory / "toolchains", Build(**settings), jail).build(kind, files, said.append)
        return await Compiler(jail=jail).compile(wasm)

    return run(main()), "".join(said)


def failure(directory: Path, kind: str, files: dict[str, bytes], **settings: Any) -> str:
    """All that whoever sent it sees."""
    said: list[str] = []

    async def main() -> None:
        toolchains = Toolchains(directory / "toolchains", Build(**settings), Jail(directory / "scratch"))
        await toolchains.build(kind, files, said.append)

    with pytest.raises(BuildFailed) as caught:
        run(main())
    assert not list((directory / "scratch").iterdir())
    return "\n".join([*said, str(caught.value)])


@pytest.fixture(scope="session")
def with_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which C can be built: preparing it takes minutes, so one is kept where LUCET_TOOLCHAINS says."""
    pytest.importorskip("ziglang")
    kept = os.environ.get("LUCET_TOOLCHAINS")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("with_c")
    build(directory, "c", {"main.c": b"int main(void) { return 0; }"})
    return directory


def test_text() -> None:
    found = compiled(HELLO)
    assert found.interface == "hostcalls"
    assert App(lucet.Module.from_bytes(found.artifact)).get("/").body == b"hello from a fresh instance\n"
    assert compiled(found.wasm).wasm == found.wasm
    assert found.digest == hashlib.sha256(found.wasm).hexdigest()


def test_mistakes_in_a_text_have_a_place() -> None:
    said = refused(b'(module\n  (func (export "run")\n    (i32.add)))', "src/app.wat")
    assert said.startswith("src/app.wat:3:")
    assert "    (i32.add)))\n" in said
    assert refused(b"(module \xff)", "a.wat").startswith("a.wat:")


def test_modules_that_are_none() -> None:
    assert refused(b"\x00asm\x02\0\0\0", "a.wasm").startswith("a.wasm: unknown binary version")
    said = refused(b'(module (import "x" "f" (func)) (func (export "g")))', "a.wat")
    assert "imports from x and exports g: that is none of the guest interfaces" in said
    with pytest.raises(BuildFailed, match="module: the module has more than 10 bytes"):
        run(Compiler(module=10).compile(HELLO))


def test_a_better_artifact_of_the_same_module() -> None:
    first = compiled(HELLO)
    second = compiled(first.wasm, level="default")
    assert "opt-level default" in lucet.Module.from_bytes(second.artifact).producer
    assert second.digest == first.digest


def test_languages_that_there_are_not(tmp_path: Path) -> None:
    said = failure(tmp_path, "assemblyscript", {}, assemblyscript=tmp_path / "none")
    if "one of" not in said and "entry" not in said:
        assert "this server cannot build assemblyscript: npm install" in said
    assert "this server cannot build cobol" in failure(tmp_path, "cobol", {})


def test_c(with_c: Path) -> None:
    files = {
        "src/main.c": b'#include "app.h"\nint main(void) { printf("Content-Type: text/plain\\n\\nC\\n"); return 0; }\n',
        "src/app.h": b"#include <stdio.h>\n",
    }
    assert build(with_c, "c", files)[0].interface == "cgi"
    reactor = b"""
        __attribute__((import_module("env"), import_name("hostcall_resp_set_body")))
        int set_body(int response, const char *body, int length);
        void run(void) { set_body(0, "hi", 2); }
    """
    assert build(with_c, "c", {"src/lib.c": reactor})[0].interface == "hostcalls"


def test_mistakes_in_c_have_a_place(with_c: Path) -> None:
    said = failure(with_c, "c", {"src/main.c": b"int main(void) {\n  return x;\n}\n"})
    assert "src/main.c:2:10: error: use of undeclared identifier 'x'" in said


@pytest.mark.parametrize("path", ["/etc/passwd", "/root/.profile", "/proc/1/environ", "../../../etc/passwd"])
def test_c_cannot_include_files_of_the_host(with_c: Path, path: str) -> None:
    said = failure(with_c, "c", {"main.c": f'#include "{path}"\nint main(void) {{ return 0; }}'.encode()})
    assert "file not found" in said or "Permission denied" in said or "cannot open" in said
    assert "root:" not in said


@pytest.mark.parametrize(
    "source",
    [
        b'__asm__(".incbin \\"/etc/passwd\\"");\nint main(void) { return 0; }',
        b"const char text[] = {\n#embed </etc/passwd>\n};\nint main(void) { return text[0]; }",
    ],
)
def test_c_cannot_embed_files_of_the_host(with_c: Path, source: bytes) -> None:
    assert "passwd" in failure(with_c, "c", {"main.c": source})


def test_endless_macros_end(with_c: Path) -> None:
    doubling = b"".join(b"#define M%d M%d M%d M%d M%d\n" % (n + 1, n, n, n, n) for n in range(24))
    source = b"#define M0 0,\n" + doubling + b"int a[] = { M24 };\nint main(void) { return a[0]; }\n"
    said = failure(with_c, "c", {"main.c": source}, wall_time=20.0, cpu_time=10.0, memory=1 << 30)
    assert any(word in said for word in ("longer than", "signal", "memory", "status")), said


def test_an_include_of_itself_ends(with_c: Path) -> None:
    said = failure(with_c, "c", {"main.c": b'#include "main.c"\n#include "main.c"\n'}, wall_time=60.0)
    assert "nested too deeply" in said


def test_a_module_that_takes_long_to_compile_ends() -> None:
    big = b'(module (func (export "_start") ' + b"(drop (i32.const 1))" * 200_000 + b"))"
    assert "took more than 0.5 seconds" in refused(big, wall_time=0.5)
    compiled(b'(module (func (export "_start")' + b"(block " * 1000 + b")" * 1000 + b"))")


def test_assemblyscript(tmp_path: Path) -> None:
    installed = os.environ.get("LUCET_ASSEMBLYSCRIPT")
    if installed is None:
        pytest.skip("$LUCET_ASSEMBLYSCRIPT names no folder with AssemblyScript's compiler in its node_modules")
    given = {"assemblyscript": Path(installed, "node_modules")}
    source = (EXAMPLES / "hello_cgi.ts").read_bytes()
    assert build(tmp_path, "assemblyscript", {"assembly/index.ts": source}, **given)[0].interface == "cgi"
    source = (EXAMPLES / "filter_replace.ts").read_bytes()
    assert build(tmp_path, "assemblyscript", {"filter.ts": source}, **given)[0].interface == "http-handler"
    said = failure(tmp_path, "assemblyscript", {"a.ts": b"let x: i32 = \n  y;\n"}, **given)
    assert "TS2304: Cannot find name 'y'" in said
    assert "in a.ts(2,3)" in said


def test_rust(tmp_path: Path) -> None:
    toolchains = Toolchains(tmp_path, Build(), Jail())
    if not next(one for one in toolchains.languages() if one.kind == "rust").available:
        pytest.skip("there is no rustc with a target for WebAssembly")
    source = (EXAMPLES / "hello_cgi.rs").read_bytes()
    assert build(tmp_path, "rust", {"src/main.rs": source})[0].interface == "cgi"
    said = failure(tmp_path, "rust", {"src/main.rs": b'fn main() { include_str!("/etc/passwd"); x }'})
    assert "src/main.rs:1:" in said
    assert "root:" not in said


# What a command can do, whatever language it came from. Each with namespaces, and with what there is instead.

ISOLATION = pytest.mark.parametrize("isolate", [True, False], ids=["namespaces", "none"])


def confined(tmp_path: Path, script: str, *, isolate: bool, **limits: Any) -> JailResult:
    request = JailRequest(
        command=["/bin/sh", "-c", script],
        files={"folder/given.txt": b"given"},
        outputs={"out": 1000},
        limits=JailLimits(**{"wall": 30.0, **limits}),
    )
    result = run(run_confined(request, scratch=tmp_path, isolate=isolate))
    if isolate and any("namespaces" in one for one in result.missing):
        pytest.skip(f"not allowed here: {result.missing}")
    assert not list(tmp_path.iterdir())
    return result


@ISOLATION
def test_files_come_and_go(tmp_path: Path, isolate: bool) -> None:
    result = confined(tmp_path, "cat folder/given.txt; echo result > out; exit 3", isolate=isolate)
    assert (result.status, result.log, result.outputs) == (3, "given", {"out": b"result\n"})
    assert result.missing == () or not isolate


@ISOLATION
def test_nothing_of_the_host_can_be_read(tmp_path: Path, isolate: bool) -> None:
    script = f"cat /etc/passwd {ROOT}/pyproject.toml /proc/{os.getpid()}/environ; ls {ROOT} /root; echo $PATH $SECRET"
    os.environ["SECRET"] = "hunter2"
    try:
        result = confined(tmp_path, script, isolate=isolate)
    finally:
        del os.environ["SECRET"]
    assert "root:" not in result.log
    assert "hunter2" not in result.log
    assert "mesonpy" not in result.log
    assert result.log.count("No such file") + result.log.count("Permission denied") == 5


@ISOLATION
def test_there_is_no_network_and_no_way_to_more(tmp_path: Path, isolate: bool) -> None:
    program = (
        "import socket, os, ctypes\n"
        "for attempt in (lambda: socket.socket(), lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),\n"
        "    lambda: socket.socket(socket.AF_INET6)):\n"
        "    try: attempt(); print('allowed')\n"
        "    except OSError as error: print(error.errno)\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for call in ((272, 0x10000000), (435, 0, 0), (165, 0, 0, 0, 0, 0), (101, 0, 0, 0, 0), (425, 1, 0)):\n"
        "    libc.syscall(*call); print(ctypes.get_errno())\n"
        "socket.socketpair()\n"
    )
    result = confined(tmp_path, f"exec python3 -c '{program}'".replace("'allowed'", '"allowed"'), isolate=isolate)
    if result.status == 127:
        pytest.skip("there is no python3 in /usr")
    assert result.log.split() == ["1", "1", "1", "1", "38", "1", "1", "1"]
    assert result.status == 0


@ISOLATION
def test_a_fork_bomb_ends_with_the_build(tmp_path: Path, isolate: bool) -> None:
    result = confined(tmp_path, "f() { f | f & }; f; sleep 100", isolate=isolate, wall=2.0)
    assert result.timed_out
    assert "Cannot fork" in result.log or result.log == ""


@ISOLATION
def test_what_is_left_running_ends(tmp_path: Path, isolate: bool) -> None:
    marker = f"7{os.getpid()}"
    result = confined(tmp_path, f"(setsid sleep {marker} &) ; sleep 0.1", isolate=isolate)
    assert result.status == 0
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert one.read_bytes() != f"sleep\0{marker}\0".encode()
        except OSError:
            continue


@ISOLATION
def test_limits(tmp_path: Path, isolate: bool) -> None:
    result = confined(tmp_path, "while :; do :; done", isolate=isolate, cpu=1)
    assert result.status in (-9, -24)  # SIGKILL, SIGXCPU
    result = confined(tmp_path, "yes | head -c 3000000", isolate=isolate, log=1000)
    assert (len(result.log), result.lost) == (1000, 2_999_000)
    result = confined(tmp_path, "head -c 3000000 /dev/zero > big; wc -c < big", isolate=isolate, file=1_000_000)
    assert result.log.strip().endswith("1000000")
    result = confined(tmp_path, "head -c 2000 /dev/zero > out", isolate=isolate)
    assert result.outputs == {}  # it is larger than asked for


def test_files_together_are_limited(tmp_path: Path) -> None:
    script = "for n in 1 2 3 4; do head -c 500000 /dev/zero > $n || exit 7; done"
    result = confined(tmp_path, script, isolate=True, scratch=1_000_000)
    assert result.status == 7
    assert "No space left" in result.log


@ISOLATION
def test_memory_is_limited(tmp_path: Path, isolate: bool) -> None:
    script = "exec python3 -c 'bytearray(300 << 20)'"
    result = confined(tmp_path, script, isolate=isolate, memory=200 << 20)
    if result.status == 127:
        pytest.skip("there is no python3 in /usr")
    assert "MemoryError" in result.log


@ISOLATION
@pytest.mark.parametrize("script", ["ln -s /etc/hostname out", "mkfifo out", "mkdir out"])
def test_what_is_no_file_is_no_result(tmp_path: Path, isolate: bool, script: str) -> None:
    assert confined(tmp_path, script, isolate=isolate).outputs == {}


def test_what_was_left_by_a_server_that_was_killed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "build-old" / "x").mkdir(parents=True)
    Jail(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told_once_and_may_be_required(tmp_path: Path) -> None:
    request = JailRequest(command=["/bin/true"], files={}, outputs={})
    told: list[str] = []
    jail = Jail(tmp_path, say=told.append, isolate=False)
    for _ in range(2):
        assert run(jail.run(request)).status == 0
    assert len(told) == 1
    assert told[0].startswith("builds are confined with less than there could be: namespaces: not asked for")
    with pytest.raises(JailFailed, match="this server builds only where it can confine builds: namespaces"):
        run(Jail(tmp_path, required=True, isolate=False).run(request))


def test_a_command_that_there_is_not(tmp_path: Path) -> None:
    request = JailRequest(command=["/usr/bin/no-such-compiler"], files={}, outputs={})
    result = run(run_confined(request, scratch=tmp_path))
    assert (result.status, result.outputs) == (127, {})
    assert "no-such-compiler" in result.log
