"""The context and the helpers of lucet.wasi: what an embedder sees."""

from __future__ import annotations

import errno as host
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucet import runtime
from lucet.errors import Exit, LucetError, Trap
from lucet.wasi import ConfinementUnavailable, WasiContext, initialize, run_command
from lucet.wasi.tables import ABIS, Errno, OpenFlag, Right
from tests.wasi.fake import RESULT, Guest, guest_in


class FakeProgram:
    """An instance with these exports."""

    def __init__(self, **exports: Callable[[], object]) -> None:
        self.exports = exports

    def run(self, name: str, /) -> object:
        return self.exports[name]()


def leave(status: int) -> Callable[[], object]:
    def function() -> object:
        raise Exit(status)

    return function


@pytest.mark.parametrize(
    ("start", "status"), [(lambda: None, 0), (leave(0), 0), (leave(33), 33), (leave(1 << 31), 1 << 31)]
)
def test_a_command_s_status(start: Callable[[], object], status: int) -> None:
    assert run_command(FakeProgram(_start=start)) == status


def test_a_command_s_context_is_closed_at_its_end(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for start in (lambda: None, leave(1)):
        run_command(FakeProgram(_start=start), WasiContext(preopens=[(folder, "/")]))
    assert os.listdir("/proc/self/fd") == before


def test_a_trap_is_raised_and_closes_the_context_too(folder: Path) -> None:
    def trap() -> object:
        raise Trap("unreachable", code="UNREACHABLE")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(Trap):
        run_command(FakeProgram(_start=trap), WasiContext(preopens=[(folder, "/")]))
    assert os.listdir("/proc/self/fd") == before


def test_a_reactor_is_initialised_and_keeps_its_context(guest: Guest) -> None:
    called = []
    assert run_command(FakeProgram(_initialize=lambda: called.append(1)), guest.context) == 0
    assert initialize(FakeProgram(_initialize=leave(4))) == 4
    assert initialize(FakeProgram(other=lambda: called.append(2))) == 0
    assert called == [1]
    assert guest.try_open(".", rights=0) == Errno.SUCCESS


def test_preopens_are_numbered_from_3_in_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with WasiContext(
        preopens=[(tmp_path / "a", "/a"), (str(tmp_path / "b"), "."), (tmp_path / "a", "/ä", True)]
    ) as context:
        guest = Guest(context)
        for fd, name in ((3, "/a"), (4, "."), (5, "/ä")):
            guest.ok("fd_prestat_dir_name", fd, RESULT, 10)
            assert guest.memory.read(RESULT, len(name.encode())) == name.encode()
        assert not guest.fdstat(5)[3] & Right.FD_WRITE
        assert guest.fdstat(3)[3] & Right.FD_WRITE


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_a_directory_that_cannot_be_opened_leaves_nothing_open(folder: Path, name: str) -> None:
    (folder / "file").touch()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=name):
        WasiContext(preopens=[(folder, "/"), (folder / name, "/x")], stdin=0)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("error", "words"), [(host.ENOSYS, "needs Linux 5.6"), (host.EPERM, "system call filter")])
def test_a_kernel_without_openat2_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: int, words: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(runtime, "openat2", refuse)
    with pytest.raises(ConfinementUnavailable, match=words) as caught:
        WasiContext(preopens=[(folder, "/")])
    assert isinstance(caught.value, LucetError)
    WasiContext().close()  # a guest without directories needs no openat2


def test_the_number_of_descriptors_is_limited(folder: Path) -> None:
    with guest_in(folder, max_descriptors=8) as guest:
        before = len(os.listdir("/proc/self/fd"))
        for fd in range(4, 8):
            assert guest.open(f"file{fd}", oflags=OpenFlag.CREAT) == fd
        assert guest.try_open("more", oflags=OpenFlag.CREAT) == Errno.MFILE
        assert not (folder / "more").exists(), "refused before the host does anything"
        assert len(os.listdir("/proc/self/fd")) == before + 4
        guest.ok("fd_renumber", 7, 6)
        assert guest.open("more", oflags=OpenFlag.CREAT) == 7
        for fd in (5, 4):
            guest.ok("fd_close", fd)
        assert [guest.open("file4"), guest.open("file4")] == [4, 5]
        assert guest.try_open("file4") == Errno.MFILE


def test_the_usual_limit_of_descriptors(folder: Path) -> None:
    with guest_in(folder) as guest:
        (folder / "file").touch()
        opened = 0
        while (errno := guest.try_open("file", rights=0)) == Errno.SUCCESS:
            opened += 1
        assert errno == Errno.MFILE
        assert opened <= 1024 - 4


def test_a_loop_of_opening_and_closing_leaves_nothing(folder: Path) -> None:
    (folder / "file").touch()
    with guest_in(folder) as guest:
        before = os.listdir("/proc/self/fd")
        for _ in range(2000):
            assert guest.open("file") == 4
            guest.ok("fd_close", 4)
        assert os.listdir("/proc/self/fd") == before


ERRORS = {
    host.ENOSPC: Errno.NOSPC,
    host.EIO: Errno.IO,
    host.EDQUOT: Errno.DQUOT,
    host.EFBIG: Errno.FBIG,
    host.ENOMEM: Errno.NOMEM,
    host.EROFS: Errno.ROFS,
    host.EMFILE: Errno.MFILE,
    host.ENOMEDIUM: Errno.IO,  # preview 1 has no word for it
}
FAULTS: dict[str, tuple[str, list[int]]] = {
    "readv": ("fd_read", [4, 0x100, 0]),
    "writev": ("fd_write", [4, 0x100, 0]),
    "preadv": ("fd_pread", [4, 0x100, 0, 0]),
    "pwritev": ("fd_pwrite", [4, 0x100, 0, 0]),
    "fsync": ("fd_sync", [4]),
    "fdatasync": ("fd_datasync", [4]),
    "ftruncate": ("fd_filestat_set_size", [4, 0]),
    "posix_fallocate": ("fd_allocate", [4, 0, 1]),
    "posix_fadvise": ("fd_advise", [4, 0, 1, 0]),
    "lseek": ("fd_tell", [4]),
    "utime": ("fd_filestat_set_times", [4, 0, 0, 2]),
    "scandir": ("fd_readdir", [3, 0x4000, 100, 0]),
    "mkdir": ("path_create_directory", [3, 0x100, 1]),
    "rmdir": ("path_remove_directory", [3, 0x100, 1]),
    "unlink": ("path_unlink_file", [3, 0x100, 1]),
    "symlink": ("path_symlink", [0x100, 1, 3, 0x100, 1]),
    "rename": ("path_rename", [3, 0x100, 1, 3, 0x100, 1]),
    "link": ("path_link", [3, 0, 0x100, 1, 3, 0x100, 1]),
    "readlink": ("path_readlink", [3, 0x100, 1, 0x4000, 100]),
}


@pytest.mark.python_only
@pytest.mark.parametrize("function", FAULTS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda number: host.errorcode[number])
def test_faults_of_the_host_are_told(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: int
) -> None:
    """The errno, no byte of memory changed, and no descriptor lost."""
    (folder / "file").touch()
    assert guest.open("file") == 4
    name, given = FAULTS[function]
    arguments = given + [RESULT] * (len(guest.abi.calls[name].params) - len(given))
    before = os.listdir("/proc/self/fd")

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        guest.check(ERRORS[error], {}, name, *arguments)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.python_only
def test_a_fault_while_opening_closes_what_was_opened(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    before = os.listdir("/proc/self/fd")

    def fail(_fd: int) -> None:
        raise OSError(host.EIO, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert guest.try_open("file") == Errno.IO
        guest.check(Errno.IO, {}, "path_filestat_get", 3, 0, *guest.path("file"), RESULT)
    assert os.listdir("/proc/self/fd") == before
    assert guest.open("file") == 4


@pytest.mark.python_only
def test_openat2_is_asked_again_when_the_kernel_says_so(
    guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_bytes(b"content")
    real = runtime.openat2
    refusals = [host.EAGAIN, host.EAGAIN]

    def busy(*arguments: Any) -> int:
        if refusals:
            raise OSError(refusals.pop(), "")
        return real(*arguments)

    monkeypatch.setattr(runtime, "openat2", busy)
    assert guest.read(guest.open("file"), 10) == b"content"
    assert not refusals
    refusals = [host.EAGAIN] * 10_000
    assert guest.try_open("file") == Errno.AGAIN
    assert refusals, "but not for ever"


def test_a_signal_does_not_end_a_call() -> None:
    reader, writer = os.pipe()
    seen = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        with WasiContext(stdin=reader) as context:
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            threading.Timer(0.1, os.write, (writer, b"x")).start()
            assert Guest(context).read(0, 1) == b"x"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.close(reader)
        os.close(writer)
    assert seen == [1]


def test_an_exception_of_a_signal_handler_passes() -> None:
    """What Ctrl-C is."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        guest = Guest(WasiContext())
        guest.memory.write(0, bytes(16) + b"\1\0\0\0\0\0\0\0" + (10**11).to_bytes(8, "little") + bytes(16))
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            guest.call("poll_oneoff", 0, 0x1000, 1, RESULT)
        assert time.monotonic() - start < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_imports_are_host_functions_of_both_versions(guest: Guest) -> None:
    imports = guest.context.imports()
    assert {module: set(names) for module, names in imports.items()} == {abi.module: set(abi.calls) for abi in ABIS}
    seek = imports["wasi_unstable"]["fd_seek"]
    assert (seek.params, seek.results, seek.wants_caller) == (("i32", "i64", "i32", "i32"), ("i32",), True)
    assert imports["wasi_snapshot_preview1"]["proc_exit"].results == ()


def test_a_forgotten_context_closes_what_it_holds(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    guest_in(folder, stdin=0).open_directory(".")
    assert os.listdir("/proc/self/fd") == before
