"""Standard streams: the host's, in memory, and a terminal that a guest must not command."""

from __future__ import annotations

import fcntl
import os
import pty
import sys
import tempfile
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lucet.wasi import Capture, WasiContext
from lucet.wasi.tables import Errno, FdFlag, FileType, Right
from tests.wasi.fake import DATA, RESULT, Guest, guest_in


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            assert fd == writer, "tests close the writer only"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(our side, the guest's side)"""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def test_nothing_is_inherited_by_default() -> None:
    with WasiContext() as context:
        guest = Guest(context)
        assert guest.read(0, 10) == b""
        assert guest.write(1, b"gone", b"too") == 7
        assert guest.write(2, b"gone") == 4
        guest.check(Errno.NOTCAPABLE, {}, "fd_write", 0, *guest.iovecs(b"a"), RESULT)
        guest.check(Errno.NOTCAPABLE, {}, "fd_read", 1, *guest.iovecs(1), RESULT)
        guest.check(Errno.SUCCESS, {}, "fd_close", 0)
        for fd in (1, 2):
            guest.check(Errno.SUCCESS, {}, "fd_sync", fd)
            assert guest.filestat(fd).filetype == FileType.UNKNOWN


def test_input_from_bytes() -> None:
    with WasiContext(stdin=b"0123456789") as context:
        guest = Guest(context)
        assert guest.read(0, 4) == b"0123"
        guest.check(Errno.SUCCESS, {DATA: b"45678", RESULT: b"\5\0\0\0"}, "fd_read", 0, *guest.iovecs(2, 0, 3), RESULT)
        assert guest.read(0, 9) == b"9"
        assert guest.read(0, 9) == b""
        guest.check(Errno.NOTCAPABLE, {}, "fd_seek", 0, 0, 0, RESULT)


def test_captured_output() -> None:
    out, err = Capture(), Capture()
    with WasiContext(stdout=out, stderr=err) as context:
        guest = Guest(context)
        guest.write(1, b"one", b"two")
        guest.write(2, b"error")
        guest.write(1, b"!")
        assert (out.getvalue(), err.getvalue()) == (b"onetwo!", b"error")
    assert out.getvalue() == b"onetwo!", "also when the guest is gone"


def test_one_capture_for_both() -> None:
    both = Capture()
    with WasiContext(stdout=both, stderr=both) as context:
        guest = Guest(context)
        guest.write(1, b"1")
        guest.write(2, b"2")
        guest.ok("fd_close", 1)
        guest.write(2, b"3")
    assert both.getvalue() == b"123"


def test_a_capture_is_capped() -> None:
    out = Capture(limit=10)
    with WasiContext(stdout=out) as context:
        guest = Guest(context)
        assert guest.write(1, b"01234567") == 8
        assert guest.write(1, b"ab", b"cd") == 2
        guest.check(Errno.NOSPC, {}, "fd_write", 1, *guest.iovecs(b"x"), RESULT)
        assert guest.write(1, b"") == 0
    assert out.getvalue() == b"01234567ab"


@pytest.mark.parametrize(("limit", "taken"), [(None, 0x7FFFF000), (1000, 1000)])
def test_overlapping_buffers_cannot_make_the_host_hold_more_than_it_should(limit: int | None, taken: int) -> None:
    """1024 times the whole memory."""
    with WasiContext(stdout=None if limit is None else Capture(limit)) as context:
        guest = Guest(context, size=1 << 25)
        guest.memory.write(0, (b"\0\0\0\0" + (1 << 25).to_bytes(4, "little")) * 1024)
        guest.ok("fd_write", 1, 0, 1024, RESULT)
        assert guest.u32() == taken


def test_overlapping_buffers_on_a_terminal(terminal: tuple[int, int]) -> None:
    with WasiContext(stdout=terminal[1]) as context, reading(terminal):
        guest = Guest(context, size=1 << 20)
        guest.memory.write(0, (b"\0\0\0\0" + (1 << 20).to_bytes(4, "little")) * 1024)
        guest.ok("fd_write", 1, 0, 1024, RESULT)
        assert guest.u32() == 1 << 16


def test_host_descriptors_stay_the_host_s(pipe: tuple[int, int]) -> None:
    with WasiContext(stdin=pipe[0], stdout=pipe[1]) as context:
        guest = Guest(context)
        assert guest.write(1, b"through a pipe") == 14
        assert guest.read(0, 100) == b"through a pipe"
        guest.ok("fd_close", 1)
    os.write(pipe[1], b"still open")
    assert os.read(pipe[0], 100) == b"still open"


def test_a_file_object_is_flushed_first(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        file.write("host ")
        with WasiContext(stdout=file) as context:
            Guest(context).write(1, b"guest")
    assert (tmp_path / "out").read_text() == "host guest"


def test_standard_streams_of_the_process_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    with WasiContext(stdin=fd, stdout=fd) as context:
        guest = Guest(context)
        assert guest.read(0, 1) == b""
        assert guest.write(1, b"a") == 1


def test_a_redirected_file_can_be_read_and_written_but_not_truncated() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.seek(0)
        with WasiContext(stdin=file, stdout=file) as context:
            guest = Guest(context)
            assert guest.fdstat(0)[0] == FileType.REGULAR_FILE
            assert guest.read(0, 3) == b"012"
            guest.ok("fd_seek", 0, 5, 0, RESULT)
            assert guest.read(0, 3) == b"567"
            guest.write(1, b"XY")
            guest.check(Errno.NOTCAPABLE, {}, "fd_filestat_set_size", 1, 0)
            guest.check(Errno.NOTCAPABLE, {}, "fd_allocate", 1, 0, 99)
            guest.check(Errno.NOTCAPABLE, {}, "fd_filestat_set_times", 1, 0, 0, 2)
        file.seek(0)
        assert file.read() == b"01234567XY"


def test_a_pipe_cannot_be_sought(pipe: tuple[int, int]) -> None:
    with WasiContext(stdin=pipe[0]) as context:
        Guest(context).check(Errno.SPIPE, {}, "fd_seek", 0, 0, 0, RESULT)
        Guest(context).check(Errno.SPIPE, {}, "fd_tell", 0, RESULT)


def test_non_blocking_is_the_guest_s_alone(pipe: tuple[int, int]) -> None:
    """The descriptor is shared with whoever started us: a shell does not survive a terminal that does not block."""
    with WasiContext(stdin=pipe[0], stdout=pipe[1]) as context:
        guest = Guest(context)
        guest.ok("fd_fdstat_set_flags", 0, FdFlag.NONBLOCK)
        guest.ok("fd_fdstat_set_flags", 1, FdFlag.NONBLOCK)
        assert guest.fdstat(0)[1] == FdFlag.NONBLOCK
        guest.check(Errno.AGAIN, {}, "fd_read", 0, *guest.iovecs(1), RESULT)
        os.set_blocking(pipe[1], False)
        filled = os.write(pipe[1], bytes(1 << 20))
        os.set_blocking(pipe[1], True)
        guest.check(Errno.AGAIN, {}, "fd_write", 1, *guest.iovecs(b"x"), RESULT)
        assert len(os.read(pipe[0], filled)) == filled
        guest.write(1, b"x")
        assert guest.read(0, 5) == b"x"
        guest.check(Errno.NOTSUP, {}, "fd_fdstat_set_flags", 0, FdFlag.APPEND)
    for fd in pipe:
        assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_host_descriptor_that_does_not_block_blocks_for_the_guest(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    with WasiContext(stdin=pipe[0]) as context:
        guest = Guest(context)
        assert guest.fdstat(0)[1] == 0
        threading.Timer(0.05, os.write, (pipe[1], b"late")).start()
        assert guest.read(0, 10) == b"late"


def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with WasiContext(stdout=writer) as context:
        guest = Guest(context)
        guest.check(Errno.PIPE, {}, "fd_write", 1, *guest.iovecs(b"a"), RESULT)
    os.close(writer)


@contextmanager
def reading(terminal: tuple[int, int]) -> Iterator[bytearray]:
    """Everything that is written to the terminal meanwhile, complete when the block is left."""
    seen = bytearray()

    def read() -> None:
        while not seen.endswith(b"$"):
            seen.extend(os.read(terminal[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        os.write(terminal[1], b"$")
        reader.join()
        del seen[-1]


def shown(terminal: tuple[int, int], *writes: bytes) -> bytes:
    with reading(terminal) as seen, WasiContext(stdout=terminal[1]) as context:
        guest = Guest(context)
        for data in writes:
            assert guest.write(1, data) == len(data)
    return bytes(seen)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text\n\ttab\r\b", "plain text\n\ttab\r\b"),
        ("größe € 漢字 🙂", "größe € 漢字 🙂"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\0\x01\x0b\x0c\x0e\x1f\x7f", "␀␁␋␌␎␟␡"),
        ("\x9b31m \x90q\x9c \x80\x9f", "\ufffd31m \ufffdq\ufffd \ufffd\ufffd"),
    ],
)
def test_a_terminal_gets_text_but_no_commands(terminal: tuple[int, int], text: str, expected: str) -> None:
    assert shown(terminal, text.encode()).decode() == expected


def test_bytes_that_are_no_text(terminal: tuple[int, int]) -> None:
    shown_bytes = shown(terminal, b"a\x9b31mb\xff\xc3")
    assert shown_bytes.decode() == "a\ufffd31mb\ufffd\ufffd"


def test_characters_in_pieces(terminal: tuple[int, int]) -> None:
    euro = "€".encode()
    assert shown(terminal, euro[:1], euro[1:2], euro[2:] + b"\xc2", b"\x9b31m").decode() == "€\ufffd31m"


def test_every_single_byte_on_a_terminal_is_harmless(terminal: tuple[int, int]) -> None:
    for code in range(256):
        seen = shown(terminal, bytes([code]), b"[")
        assert not set(seen) & ({*range(0x20), 0x7F} - set(b"\n\t\r\b")), code
        assert not any(0x80 <= ord(c) < 0xA0 for c in seen.decode()), code


def test_a_terminal_is_known_by_its_rights(terminal: tuple[int, int]) -> None:
    with WasiContext(stdin=terminal[1], stdout=terminal[1]) as context:
        guest = Guest(context)
        for fd in (0, 1):
            filetype, _, rights, _ = guest.fdstat(fd)
            assert filetype == FileType.CHARACTER_DEVICE
            assert not rights & (Right.FD_SEEK | Right.FD_TELL)
        os.write(terminal[0], b"\x1b[A typed")
        assert guest.read(0, 20) == b"\x1b[A typed", "input is not filtered"
        guest.check(Errno.NOTCAPABLE, {}, "fd_seek", 1, 0, 0, RESULT)


def test_a_pipe_is_not_filtered(pipe: tuple[int, int]) -> None:
    with WasiContext(stdout=pipe[1]) as context:
        Guest(context).write(1, b"\x1b[31m\xff")
    assert os.read(pipe[0], 100) == b"\x1b[31m\xff"


def test_a_large_write_to_a_terminal_is_done_in_parts(terminal: tuple[int, int]) -> None:
    with WasiContext(stdout=terminal[1]) as context, reading(terminal) as seen:
        guest = Guest(context, size=1 << 18)
        guest.memory.data[:] = b"x" * len(guest.memory.data)
        written = 0
        while written < 100_000:
            guest.memory.write(0, b"\0\1\0\0" + (100_000 - written).to_bytes(4, "little"))
            guest.ok("fd_write", 1, 0, 1, 8)
            written += guest.u32(8)
    assert bytes(seen) == b"x" * 100_000


def test_standard_output_of_python(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with guest_in(folder, stdout=sys.__stdout__, stderr=2) as guest:
        guest.write(1, b"guest\n")
        guest.write(2, b"oops\n")
    captured = capfd.readouterr()
    assert captured.out.endswith("guest\n")
    assert captured.err == "oops\n"
