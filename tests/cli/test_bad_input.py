"""Bad input to the commands: one clear line, an exit status, no traceback, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import programs
from tests.cli.programs import HELLO, Lucet

Refuses = Callable[..., str]

COMMANDS = ("run", "compile")


@pytest.mark.parametrize("command", COMMANDS)
class TestWhatIsNotAModule:
    def test_no_such_file(self, refuses: Refuses, command: str) -> None:
        assert "nope.wasm: No such file or directory" in refuses(command, "nope.wasm")

    def test_a_directory(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        (tmp_path / "folder.wasm").mkdir()
        assert "folder.wasm: Is a directory" in refuses(command, "folder.wasm")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_not_readable(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        path = tmp_path / "secret.wasm"
        path.touch(mode=0)
        assert "secret.wasm: Permission denied" in refuses(command, "secret.wasm")

    def test_an_empty_file(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        (tmp_path / "empty.wasm").touch()
        assert "empty.wasm: the file is empty" in refuses(command, "empty.wasm")

    def test_a_text_file(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        (tmp_path / "notes.wasm").write_text("not a module\n")
        assert "magic header not detected" in refuses(command, "notes.wasm")

    def test_another_version(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        (tmp_path / "future.wasm").write_bytes(b"\0asm\x09\0\0\0")
        assert "future.wasm: unknown binary version" in refuses(command, "future.wasm")

    @pytest.mark.parametrize("size", [4, 6, 8, 9, 50, 1000, 20000])
    def test_cut_short(self, refuses: Refuses, command: str, tmp_path: Path, size: int) -> None:
        wasm = HELLO.read_bytes()
        # 8 bytes are a whole module, an empty one, so `compile` accepts it and `run` finds no _start.
        if size == 8 and command == "compile":
            pytest.skip("the empty module is valid")
        (tmp_path / "cut.wasm").write_bytes(wasm[:size])
        assert "cut.wasm: " in refuses(command, "cut.wasm")

    @pytest.mark.parametrize(
        ("text", "place", "excerpt"),
        [
            ("(module\n  (func i32.cunst 1))\n", "2:9: unknown operator i32.cunst", "  (func i32.cunst 1))"),
            (
                '(func (export "_start")\n\t(i32.eqz (f32.const 1)))',
                "2:3: type mismatch: i32.eqz expects i32, found f32 in function 0",
                " (i32.eqz (f32.const 1)))",
            ),
        ],
    )
    def test_bad_text(self, lucet: Lucet, command: str, tmp_path: Path, text: str, place: str, excerpt: str) -> None:
        """One line with the place, then that line of the text, and what is wrong in it underlined."""
        (tmp_path / "bad.wat").write_text(text)
        outcome = lucet(command, "bad.wat")
        first, *details = outcome.stderr.decode().splitlines()
        column, width = int(place.split(":")[1]), len("i32.cunst" if "cunst" in text else "i32.eqz")
        assert outcome.returncode == 1
        assert first == f"lucet {command}: error: bad.wat:{place}"
        assert details == [f" 2 | {excerpt}", f"   | {' ' * (column - 1)}{'^' * width}"]

    def test_text_that_is_not_utf_8(self, refuses: Refuses, command: str, tmp_path: Path) -> None:
        (tmp_path / "bad.wat").write_bytes(b"(module\n \xff)")
        assert "bad.wat:2:2: malformed UTF-8 encoding" in refuses(command, "bad.wat")

    @pytest.mark.parametrize("seed", range(4))
    def test_noise_after_a_good_header(self, refuses: Refuses, command: str, tmp_path: Path, seed: int) -> None:
        noise = random.Random(seed).randbytes(500)
        (tmp_path / "noise.wasm").write_bytes(b"\0asm\x01\0\0\0" + b"\x7f" + noise)
        assert "noise.wasm: malformed section id" in refuses(command, "noise.wasm")

    @pytest.mark.parametrize("seed", range(8))
    def test_mutated(self, lucet: Lucet, command: str, tmp_path: Path, seed: int) -> None:
        """A few changed bytes: refused in one line, or still a valid module that compiles; never a traceback."""
        chooser = random.Random(seed)
        wasm = bytearray(HELLO.read_bytes())
        for _ in range(5):
            wasm[chooser.randrange(8, len(wasm))] = chooser.randrange(256)
        (tmp_path / "mutant.wasm").write_bytes(wasm)
        outcome = lucet("compile", "mutant.wasm", "-o", "out.so", "--opt-level", "none")
        assert outcome.returncode in (0, 1)
        assert (tmp_path / "out.so").exists() == (outcome.returncode == 0)
        assert outcome.stderr.count(b"\n") == outcome.returncode
        assert b"internal error" not in outcome.stderr


class TestWhatIsNotAnArtifact:
    def test_another_shared_object(self, refuses: Refuses, tmp_path: Path) -> None:
        import _ctypes

        shutil.copy(_ctypes.__file__, tmp_path / "other.so")
        assert "other.so: " in refuses("run", "other.so")

    def test_an_elf_header_and_nothing_else(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "head.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
        assert "head.so: " in refuses("run", "head.so")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_cut_short(self, lucet: Lucet, refuses: Refuses, tmp_path: Path, share: float) -> None:
        assert lucet("compile", HELLO, "-o", "whole.so").returncode == 0
        whole = (tmp_path / "whole.so").read_bytes()
        (tmp_path / "cut.so").write_bytes(whole[: int(len(whole) * share)])
        assert "cut.so: " in refuses("run", "cut.so")

    def test_compiling_what_is_compiled(self, lucet: Lucet, refuses: Refuses) -> None:
        assert lucet("compile", HELLO, "-o", "whole.so").returncode == 0
        assert "whole.so: is compiled already" in refuses("compile", "whole.so")


class TestWhatCannotRun:
    def test_a_missing_import(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "needy.wasm").write_bytes(programs.needs("env", "what_is_this"))
        line = refuses("run", "needy.wasm")
        assert "env" in line
        assert "what_is_this" in line

    def test_an_import_of_another_type(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "odd.wasm").write_bytes(programs.needs(programs.WASI, "fd_write"))
        assert "fd_write" in refuses("run", "odd.wasm")

    def test_no_start(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "library.wasm").write_bytes(programs.command(b"", export="do_something"))
        assert "_start" in refuses("run", "library.wasm")

    def test_a_missing_directory(self, refuses: Refuses) -> None:
        assert "--dir nowhere: no such directory" in refuses("run", "--dir", "nowhere::/data", HELLO)

    def test_a_file_as_directory(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "--dir file: no such directory" in refuses("run", "--dir", "file", HELLO)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            ([], "no command"),
            (["fly"], "unknown command 'fly'"),
            (["--fly"], "unknown command '--fly'"),
            (["run"], "PROGRAM"),
            (["run", "--fly", "x.wasm"], "--fly"),
            (["run", "--env", "NAME", "x.wasm"], "'NAME' is not NAME=VALUE"),
            (["run", "--env", "=x", "x.wasm"], "'=x' is not NAME=VALUE"),
            (["run", "--dir", "::x", "x.wasm"], "'::x' is not HOST or HOST::GUEST"),
            (["run", "--opt-level", "9", "x.wasm"], "--opt-level"),
            (["run", "--opt", "0", "x.wasm"], "--opt"),
            (["compile"], "MODULE.wasm"),
            (["compile", "--emit", "exe", "x.wasm"], "--emit"),
            (["compile", "--target-cpu", "z80", "x.wasm"], "--target-cpu"),
            (["compile", "-j", "0", "x.wasm"], "-j"),
            (["compile", "-j", "many", "x.wasm"], "-j"),
            (["compile", "x.wasm", "y.wasm"], "y.wasm"),
        ],
    )
    def test_one_line_and_status_2(self, refuses: Refuses, arguments: list[str], what: str) -> None:
        assert what in refuses(*arguments, status=2)


class TestOutput:
    def test_a_folder_that_does_not_exist(self, refuses: Refuses) -> None:
        assert "nowhere/out.so: No such file or directory" in refuses("compile", HELLO, "-o", "nowhere/out.so")

    def test_a_folder_as_output(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        assert "folder: Is a directory" in refuses("compile", HELLO, "-o", "folder")

    def test_an_output_that_stands_stays_when_compiling_fails(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "out.so").write_bytes(b"precious")
        (tmp_path / "bad.wasm").write_bytes(b"\0asm\x01\0\0\0\xff")
        refuses("compile", "bad.wasm", "-o", "out.so")  # which compares the folder's files
        assert (tmp_path / "out.so").read_bytes() == b"precious"

    def test_control_characters_in_a_name_are_shown_not_sent(self, refuses: Refuses, tmp_path: Path) -> None:
        assert "\\x1b[31m" in refuses("run", "\x1b[31mred.wasm")


class TestImports:
    def test_imports_that_wasi_does_not_have(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "needy.wasm").write_bytes(programs.needs("env", "what_is_this"))
        assert "there is no env.what_is_this" in refuses("compile", "needy.wasm", "--validate")

    def test_what_is_no_command(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "library.wat").write_text('(func (export "f"))')
        assert "there is no exported function _start" in refuses("compile", "library.wat", "--wasi-exe")
        (tmp_path / "library.wat").write_text('(func (export "_start") (param i32))')
        assert "_start is [i32] -> [], not [] -> []" in refuses("compile", "library.wat", "--wasi_exe")

    def test_a_command_of_wasi(self, lucet: Lucet) -> None:
        assert lucet("compile", HELLO, "--validate", "--wasi-exe", "-o", "hello.so").returncode == 0

    def test_bindings(self, lucet: Lucet, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "needy.wasm").write_bytes(programs.needs("env", "quit"))
        (tmp_path / "bad.json").write_text('{"env": []}')
        assert "bad.json: bindings must be" in refuses("compile", "needy.wasm", "--bindings", "bad.json")
        (tmp_path / "other.json").write_text('{"env": {"leave": "stop"}}')
        assert "env.quit is not bound" in refuses("compile", "needy.wasm", "--bindings", "other.json")
        (tmp_path / "good.json").write_text('{"env": {"quit": "wasi_snapshot_preview1::sched_yield"}}')
        options = ("--bindings", "good.json", "--bindings", "other.json", "-o", "bound.so")
        assert lucet("compile", "needy.wasm", *options).returncode == 0

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            (("--reserved-size", "much"), "must be a number of bytes, or one like 64 MiB, not 'much'"),
            (("--guard-size", "-4096"), "--guard-size"),
            (("--error-style", "loud"), "--error-style"),
        ],
    )
    def test_bad_sizes(self, refuses: Refuses, options: tuple[str, ...], what: str) -> None:
        assert what in refuses("compile", HELLO, *options, status=2)

    def test_options_that_contradict(self, refuses: Refuses) -> None:
        assert "multiple of 4096" in refuses("compile", HELLO, "--guard-size", "5K")
        reserved = ("--min-reserved-size", "2 MiB", "--max-reserved-size", "1m")
        assert "min_reserved_size must not be greater" in refuses("compile", HELLO, *reserved)
        assert "a target feature must be" in refuses("compile", HELLO, "--target-feature=+avx,-mmx")

    def test_errors_as_json(self, lucet: Lucet, tmp_path: Path) -> None:
        outcome = lucet("compile", "none.wasm", "--error-style", "json")
        assert outcome.returncode == 1
        assert json.loads(outcome.stderr) == [{"error": "none.wasm: No such file or directory"}]
        (tmp_path / "bad.wat").write_text("(\n(")
        assert json.loads(lucet("compile", "bad.wat", "--error-style=json").stderr)[0]["error"].startswith(
            "bad.wat:2:1: "
        )

    def test_text_can_be_refused(self, refuses: Refuses, tmp_path: Path) -> None:
        (tmp_path / "text.wat").write_text("(module)")
        assert "is in the text format" in refuses("compile", "text.wat", "--no-translate-wat")
