"""Files in memory: the same answers as a directory of the host gives, and bounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lucet.wasi import MemoryFiles, WasiContext
from lucet.wasi.tables import ALL_RIGHTS, FILE_RIGHTS, Errno, FdFlag, FileType, FstFlag, OpenFlag, Right
from tests.wasi.fake import DATA, RESULT, Guest

NAMES = ["a", "b", "link", "dir", "dir/a", "dir/b", "dir/sub", "dir/sub/a", "dir/link"]
ODD = [".", "..", "dir/..", "dir/../a", "a/", "dir/", "./a", "a/b", "dir//a", "../x", "/a", "link/a", "new/", "dir/."]
TARGETS = ["a", "dir", "../a", "dir/sub", "link", "nothing", "..", "./b", "dir/"]


def memory_guest(files: MemoryFiles, *, read_only: bool = False) -> Guest:
    return Guest(WasiContext(preopens=[(files, "/", read_only)]))


Answer = tuple[object, ...]


def step(guest: Guest, dice: random.Random, opened: list[int]) -> Answer:
    """One operation, the same for the same dice; what a program could see of it."""

    def path(slot: int = 0) -> tuple[int, int]:
        return guest.path(dice.choice(NAMES * 3 + ODD), slot)

    follow = dice.choice((0, 1))
    match dice.choice(
        "open open open create write read seek size mkdir rmdir unlink rename link symlink readlink stat readdir close"
        " append allocate times pread pwrite tell".split()
    ):
        case "open":
            flags = dice.choice((0, 0, OpenFlag.DIRECTORY, OpenFlag.TRUNC))
            return _open(guest, opened, path(), follow, flags, dice.choice((Right.FD_READ, FILE_RIGHTS, 0)))
        case "create":
            flags = OpenFlag.CREAT | dice.choice((0, OpenFlag.EXCL, OpenFlag.TRUNC))
            return _open(guest, opened, path(), follow, flags, FILE_RIGHTS)
        case "append":
            flags = OpenFlag.CREAT
            return _open(guest, opened, path(), follow, flags, FILE_RIGHTS, FdFlag.APPEND)
        case "write":
            fd, data = dice.choice(opened), dice.randbytes(dice.randrange(20))
            errno = guest.call("fd_write", fd, *guest.iovecs(data, data[:3]), RESULT)
            return (errno, None if errno else guest.u32())
        case "pwrite":
            fd, offset = dice.choice(opened), dice.randrange(40)
            return (guest.call("fd_pwrite", fd, *guest.iovecs(b"pw"), offset, RESULT),)
        case "read":
            errno = guest.call("fd_read", dice.choice(opened), *guest.iovecs(5, 9), RESULT)
            return (errno, guest.memory.read(DATA, guest.u32()) if not errno else b"")
        case "pread":
            errno = guest.call("fd_pread", dice.choice(opened), *guest.iovecs(30), dice.randrange(30), RESULT)
            return (errno, guest.memory.read(DATA, guest.u32()) if not errno else b"")
        case "seek":
            offset, whence = dice.choice((0, 1, 5, 30, (1 << 64) - 3)), dice.choice((0, 1, 2, 3))
            errno = guest.call("fd_seek", dice.choice(opened), offset, whence, RESULT)
            return (errno, None if errno else guest.u64())
        case "tell":
            errno = guest.call("fd_tell", dice.choice(opened), RESULT)
            return (errno, None if errno else guest.u64())
        case "size":
            return (guest.call("fd_filestat_set_size", dice.choice(opened), dice.randrange(50)),)
        case "allocate":
            return (guest.call("fd_allocate", dice.choice(opened), dice.randrange(30), dice.randrange(30)),)
        case "times":
            arguments = (0, 1000, FstFlag.MTIM)
            return (guest.call("path_filestat_set_times", 3, follow, *path(), *arguments),)
        case "mkdir":
            return (guest.call("path_create_directory", 3, *path()),)
        case "rmdir":
            return (guest.call("path_remove_directory", 3, *path()),)
        case "unlink":
            return (guest.call("path_unlink_file", 3, *path()),)
        case "rename":
            return (guest.call("path_rename", 3, *path(), 3, *path(1)),)
        case "link":
            return (guest.call("path_link", 3, 0, *path(), 3, *path(1)),)
        case "symlink":
            target = guest.path(dice.choice(TARGETS), 1)
            return (guest.call("path_symlink", *target, 3, *path()),)
        case "readlink":
            errno = guest.call("path_readlink", 3, *path(), DATA, 99, RESULT)
            return (errno, guest.memory.read(DATA, guest.u32()) if not errno else b"")
        case "stat":
            errno = guest.call("path_filestat_get", 3, follow, *path(), RESULT)
            return (errno, _stat(guest) if not errno else None)
        case "readdir":
            fd = dice.choice(opened)
            errno = guest.call("fd_readdir", fd, DATA, 0x1000, 0, RESULT)
            return (errno, sorted((name, kind) for _, _, name, kind in guest.readdir(fd)) if not errno else [])
        case _:
            if len(opened) < 3:
                return ()
            return (guest.call("fd_close", opened.pop(dice.randrange(1, len(opened)))),)


def _open(
    guest: Guest, opened: list[int], path: tuple[int, int], follow: int, oflags: int, rights: int, fdflags: int = 0
) -> Answer:
    if len(opened) > 20:
        return ()
    errno = guest.call("path_open", 3, follow, *path, oflags, rights, ALL_RIGHTS, fdflags, RESULT)
    if errno:
        return (errno,)
    opened.append(guest.u32())
    filetype, flags, base, _ = guest.fdstat(opened[-1])
    return (errno, filetype, flags, base)


def _stat(guest: Guest) -> Answer:
    stat = guest._stat()
    # A directory's size and number of links are the file system's own business.
    counts = () if stat.filetype == FileType.DIRECTORY else (stat.nlink, stat.size)
    return (stat.filetype, *counts)


@pytest.mark.parametrize("seed", range(60))
def test_the_same_answers_as_the_host(folder: Path, seed: int) -> None:
    """Random operations on both, by random paths, until they differ."""
    dice = random.Random(seed)
    host, memory = Guest(WasiContext(preopens=[(folder, "/")])), memory_guest(MemoryFiles())
    opened: dict[str, list[int]] = {"host": [3], "memory": [3]}
    history = []
    with host, memory:
        for _ in range(300):
            state = dice.getstate()
            expected = step(host, dice, opened["host"])
            dice.setstate(state)
            answer = step(memory, dice, opened["memory"])
            history.append(expected)
            if expected and Errno.SUCCESS not in (expected[0], answer[0]):
                continue  # which of several errors comes first is the file system's own business
            assert answer == expected, (len(history), history[-5:])


def test_the_embedder_sees_what_the_guest_did() -> None:
    files = MemoryFiles({"/in/text": b"hello"})
    with memory_guest(files) as guest:
        assert guest.read(guest.open("in/text"), 99) == b"hello"
        guest.write(guest.open("out", oflags=OpenFlag.CREAT), b"done")
    assert files.files() == {"/in/text": b"hello", "/out": b"done"}
    assert files.read("out") == b"done"
    with pytest.raises(FileNotFoundError):
        files.read("/in/other")


def test_read_only(backend: str) -> None:
    files = MemoryFiles({"/file": b"x"})
    with memory_guest(files, read_only=True) as guest:
        assert guest.try_open("file") == Errno.NOTCAPABLE
        assert guest.try_open("new", oflags=OpenFlag.CREAT, rights=0) == Errno.NOTCAPABLE
        assert guest.call("path_unlink_file", 3, *guest.path("file")) == Errno.NOTCAPABLE
        assert guest.read(guest.open("file", rights=Right.FD_READ), 9) == b"x"
    assert files.files() == {"/file": b"x"}


def test_bytes_are_bounded() -> None:
    files = MemoryFiles(limit=1000)
    with memory_guest(files) as guest:
        fd = guest.open("file", oflags=OpenFlag.CREAT)
        assert guest.write(fd, b"x" * 990) == 990
        assert guest.write(fd, b"y" * 20) == 10, "what there is space for"
        guest.check(Errno.NOSPC, {}, "fd_write", fd, *guest.iovecs(b"z"), RESULT)
        guest.check(Errno.NOSPC, {}, "fd_filestat_set_size", fd, 1 << 40)
        guest.check(Errno.NOSPC, {}, "fd_allocate", fd, 0, 1 << 40)
        guest.check(Errno.NOSPC, {}, "fd_pwrite", fd, *guest.iovecs(b"z"), 1 << 50, RESULT)
        assert guest.call("path_symlink", *guest.path("target"), 3, *guest.path("link", 1)) == Errno.NOSPC
        guest.ok("path_unlink_file", 3, *guest.path("file"))
        other = guest.open("other", oflags=OpenFlag.CREAT)
        guest.check(Errno.NOSPC, {}, "fd_write", other, *guest.iovecs(b"z"), RESULT)
        guest.ok("fd_close", fd)  # now its bytes are free
        assert guest.write(other, b"z" * 1000) == 1000
    assert files.used == 1000


def test_entries_are_bounded() -> None:
    files = MemoryFiles(max_entries=10)
    attempts: list[Callable[[Guest, str], Errno]] = [
        lambda guest, name: guest.try_open(name, oflags=OpenFlag.CREAT),
        lambda guest, name: guest.call("path_create_directory", 3, *guest.path(name)),
        lambda guest, name: guest.call("path_symlink", *guest.path("x"), 3, *guest.path(name, 1)),
    ]
    with memory_guest(files) as guest:
        for i in range(9):
            assert attempts[i % 3](guest, f"{i}") == Errno.SUCCESS
        for attempt in attempts:
            assert attempt(guest, "more") == Errno.NOSPC
        guest.ok("path_remove_directory", 3, *guest.path("1"))
        assert guest.try_open("more", oflags=OpenFlag.CREAT) == Errno.SUCCESS
    assert len(files.files()) == 4


def test_deep_nests_are_no_problem() -> None:
    files = MemoryFiles()
    with memory_guest(files) as guest:
        fd = 3
        for _ in range(900):
            guest.ok("path_create_directory", fd, *guest.path("d"))
            deeper = guest.open_directory("d", fd=fd)
            if fd != 3:
                guest.ok("fd_close", fd)
            fd = deeper
        guest.open("file", fd=fd, oflags=OpenFlag.CREAT)
        assert guest.call("path_rename", 3, *guest.path("d"), fd, *guest.path("d", 1)) == Errno.INVAL
    assert list(files.files()) == ["/d" * 900 + "/file"]


def test_links_to_each_other_end(backend: str) -> None:
    with memory_guest(MemoryFiles()) as guest:
        for name, target in (("a", "b"), ("b", "a"), ("c", "c/c/c/c")):
            guest.ok("path_symlink", *guest.path(target), 3, *guest.path(name, 1))
        assert guest.try_open("a") == guest.try_open("c/x") == Errno.LOOP


def test_between_memory_and_host_nothing_moves(folder: Path) -> None:
    (folder / "file").touch()
    with WasiContext(preopens=[(folder, "/"), (MemoryFiles({"/m": b""}), "/m")]) as context:
        guest = Guest(context)
        for call, flags in (("path_rename", []), ("path_link", [0])):
            assert guest.call(call, 3, *flags, *guest.path("file"), 4, *guest.path("x", 1)) == Errno.XDEV
            assert guest.call(call, 4, *flags, *guest.path("m"), 3, *guest.path("x", 1)) == Errno.XDEV


@pytest.mark.parametrize("path", ["", "/", "a/../b", "./a"])
def test_paths_of_the_embedder_are_plain(path: str) -> None:
    with pytest.raises(ValueError, match="path of a file"):
        MemoryFiles({path: b""})


def test_a_file_is_no_directory() -> None:
    with pytest.raises(NotADirectoryError):
        MemoryFiles({"/a": b"", "/a/b": b""})
    with pytest.raises(IsADirectoryError):
        MemoryFiles({"/a/b": b"", "/a": b""})
    with pytest.raises(OSError, match="no space left of 3 bytes"):
        MemoryFiles({"/a": b"four"}, limit=3)
