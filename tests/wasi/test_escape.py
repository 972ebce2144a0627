"""No path leads out of a preopen: every call on every way out that we know, and against a process that swaps names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lucet.wasi import WasiContext
from lucet.wasi.tables import Errno, FstFlag, OpenFlag
from tests.wasi.fake import DATA, FOLLOW, RESULT, Guest

WAYS_OUT = [
    "../secret",
    "../../etc/passwd",
    "sub/../../secret",
    "./../secret",
    "sub/.././../secret",
    ".//..//secret",
    "sub/deeper/../../../secret",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "/..",
    "..",
    "../",
    "../.",
    "../..",
    "../folder",
    "../folder/inside",
    "sub/../..",
    "sub/../../folder/inside",
    "to-parent",
    "to-parent/",
    "to-parent/secret",
    "to-parent/folder/inside",
    "to-etc",
    "to-etc/",
    "to-etc/passwd",
    "to-root/etc/passwd",
    "to-passwd",
    "to-secret",
    "to-absolute-inside",
    "to-to-secret",
    "sub/up-and-out",
    "sub/absolute",  # not sub/deeper
    "to-proc/self/root/etc/passwd",
    "to-proc/self/cwd",
    "to-magic",
    "to-magic/etc/passwd",
    "to-descriptor",
]
"""Paths that lead out when symbolic links are followed to the last component."""

LINKS = {
    "to-parent": "..",
    "to-etc": "/etc",
    "to-root": "/",
    "to-passwd": "/etc/passwd",
    "to-secret": "../secret",
    "to-to-secret": "to-secret",
    "sub/up-and-out": "../../secret",
    "sub/absolute": "/deeper",
    "to-proc": "/proc",
    "to-magic": "/proc/self/root",
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Everything around the folder: must stay as it is."""
    return tmp_path


@pytest.fixture
def guest(folder: Path) -> Iterator[Guest]:
    (folder / "sub" / "deeper").mkdir(parents=True)
    (folder / "inside").write_bytes(b"inside")
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / "to-absolute-inside").symlink_to(folder / "inside")
    with WasiContext(preopens=[(folder, "/")]) as context:
        (folder / "to-descriptor").symlink_to(f"/proc/self/fd/{os.open(folder / 'inside', os.O_RDONLY)}")
        yield Guest(context)
    os.close(int(os.readlink(folder / "to-descriptor").rpartition("/")[2]))


def _print(folder: Path) -> dict[str, tuple[int, ...]]:
    """What a call could have changed."""
    result: dict[str, tuple[int, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        stat = path.lstat()
        result[str(path)] = (stat.st_ino, stat.st_mode, stat.st_nlink, stat.st_size, stat.st_mtime_ns)
    return result


FOLLOWING: dict[str, Callable[[Guest, str], Errno]] = {
    "open": lambda guest, path: guest.try_open(path, rights=0),
    "open directory": lambda guest, path: guest.try_open(path, rights=0, oflags=OpenFlag.DIRECTORY),
    "create": lambda guest, path: guest.try_open(path, oflags=OpenFlag.CREAT),
    "truncate": lambda guest, path: guest.try_open(path, oflags=OpenFlag.TRUNC),
    "filestat": lambda guest, path: guest.call("path_filestat_get", 3, FOLLOW, *guest.path(path), RESULT),
    "set times": lambda guest, path: guest.call(
        "path_filestat_set_times", 3, FOLLOW, *guest.path(path), 1, 1, FstFlag.ATIM | FstFlag.MTIM
    ),
    "link": lambda guest, path: guest.call("path_link", 3, FOLLOW, *guest.path(path), 3, *guest.path("new", 1)),
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_no_call_follows_a_path_out(guest: Guest, outside: Path, name: str) -> None:
    before = _print(outside)
    for path in WAYS_OUT:
        errno = FOLLOWING[name](guest, path)
        if name == "create" and path.endswith("/") and path.startswith("to-"):
            assert errno == Errno.ISDIR, path  # said before the link is looked at
        else:
            assert errno in {Errno.NOTCAPABLE, Errno.LOOP}, (path, errno)
        assert _print(outside) == before, path


ENTRY_CALLS: dict[str, Callable[[Guest, str], Errno]] = {
    "create exclusively": lambda guest, path: guest.try_open(path, oflags=OpenFlag.CREAT | OpenFlag.EXCL, follow=0),
    "open": lambda guest, path: guest.try_open(path, rights=0, follow=0),
    "filestat": lambda guest, path: guest.call("path_filestat_get", 3, 0, *guest.path(path), RESULT),
    "set times": lambda guest, path: guest.call(
        "path_filestat_set_times", 3, 0, *guest.path(path), 1, 1, FstFlag.ATIM | FstFlag.MTIM
    ),
    "readlink": lambda guest, path: guest.call("path_readlink", 3, *guest.path(path), DATA, 100, RESULT),
    "create directory": lambda guest, path: guest.call("path_create_directory", 3, *guest.path(path)),
    "remove directory": lambda guest, path: guest.call("path_remove_directory", 3, *guest.path(path)),
    "unlink": lambda guest, path: guest.call("path_unlink_file", 3, *guest.path(path)),
    "rename from": lambda guest, path: guest.call("path_rename", 3, *guest.path(path), 3, *guest.path("new", 1)),
    "rename to": lambda guest, path: guest.call("path_rename", 3, *guest.path("inside"), 3, *guest.path(path, 1)),
    "link from": lambda guest, path: guest.call("path_link", 3, 0, *guest.path(path), 3, *guest.path("new", 1)),
    "link to": lambda guest, path: guest.call("path_link", 3, 0, *guest.path("inside"), 3, *guest.path(path, 1)),
    "symlink": lambda guest, path: guest.call("path_symlink", *guest.path("inside"), 3, *guest.path(path, 1)),
}


@pytest.mark.parametrize("name", ENTRY_CALLS)
def test_no_call_acts_on_an_entry_outside(guest: Guest, outside: Path, name: str) -> None:
    before = _print(outside)
    for path in WAYS_OUT:
        if path in LINKS or path in {"to-descriptor", "to-absolute-inside"}:
            continue  # the link itself is inside, see below
        errno = ENTRY_CALLS[name](guest, path)
        if path in {"to-parent/", "to-etc/"}:
            # A link's own name with a slash: refused as a link where a directory should be, or because it exists.
            assert errno != Errno.SUCCESS, path
        else:
            assert errno in {Errno.NOTCAPABLE, Errno.LOOP}, (path, errno)
        assert _print(outside) == before, path


def test_what_a_link_to_outside_allows_is_done_to_the_link(guest: Guest, folder: Path, outside: Path) -> None:
    secret = (outside / "secret").stat()
    flags = FstFlag.ATIM | FstFlag.MTIM
    guest.ok("path_filestat_set_times", 3, 0, *guest.path("to-secret"), 5, 6, flags)
    assert (folder / "to-secret").lstat().st_mtime_ns == 6
    guest.ok("path_rename", 3, *guest.path("to-secret"), 3, *guest.path("renamed", 1))
    guest.ok("path_link", 3, 0, *guest.path("renamed"), 3, *guest.path("linked", 1))
    guest.ok("path_unlink_file", 3, *guest.path("renamed"))
    assert os.readlink(folder / "linked") == "../secret"
    after = (outside / "secret").stat()
    assert (after.st_mtime_ns, after.st_nlink) == (secret.st_mtime_ns, secret.st_nlink)


def test_a_link_made_by_the_guest_leads_nowhere_either(guest: Guest) -> None:
    guest.ok("path_symlink", *guest.path("../secret"), 3, *guest.path("mine", 1))
    assert guest.try_open("mine", rights=0) == Errno.NOTCAPABLE


def test_the_parent_of_a_preopen_is_not_shown(guest: Guest, folder: Path, outside: Path) -> None:
    rows = {name: ino for _, ino, name, _ in guest.readdir(3)}
    assert rows[b"."] == folder.stat().st_ino
    assert rows[b".."] != outside.stat().st_ino


def test_no_directory_is_open_by_default() -> None:
    with WasiContext() as context:
        guest = Guest(context)
        for fd in range(10):
            assert guest.try_open(".", fd=fd, rights=0) in {Errno.BADF, Errno.NOTDIR}


SWAP = """
import os, sys, ctypes
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
print(flush=True)
while True:
    # RENAME_EXCHANGE: "place" is now a directory, now a link to the outside, and never missing.
    libc.renameat2(-100, b"place", -100, b"other", 2)
"""


@contextmanager
def swapping(folder: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SWAP, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def _attempts(guest: Guest) -> Iterator[tuple[str, Errno]]:
    def two(name: str, *flags: int) -> Errno:
        return guest.call(name, 3, *flags, *guest.path("mine"), 3, *guest.path("place/new", 1))

    times = (7, 7, FstFlag.ATIM | FstFlag.MTIM)
    yield "open", guest.try_open("place/file")
    yield "create", guest.try_open("place/new", oflags=OpenFlag.CREAT)
    yield "filestat", guest.call("path_filestat_get", 3, FOLLOW, *guest.path("place/file"), RESULT)
    for follow in (0, FOLLOW):
        yield "set times", guest.call("path_filestat_set_times", 3, follow, *guest.path("place/file"), *times)
        yield "set times", guest.call("path_filestat_set_times", 3, follow, *guest.path("place"), *times)
        yield "set times", guest.call("path_filestat_set_times", 3, follow, *guest.path("place/"), *times)
    yield "directory", guest.call("path_create_directory", 3, *guest.path("place/newdir"))
    yield "remove", guest.call("path_remove_directory", 3, *guest.path("place/newdir"))
    yield "link", two("path_link", FOLLOW)
    yield "unlink", guest.call("path_unlink_file", 3, *guest.path("place/new"))
    yield "rename", two("path_rename")
    yield "rename", guest.call("path_rename", 3, *guest.path("place/new"), 3, *guest.path("mine", 1))
    yield "symlink", guest.call("path_symlink", *guest.path("x"), 3, *guest.path("place/newlink", 1))
    yield "unlink", guest.call("path_unlink_file", 3, *guest.path("place/newlink"))
    yield "up", guest.try_open("place/../mine")


@pytest.mark.slow
def test_a_process_that_swaps_a_directory_for_a_link_gains_nothing(folder: Path, outside: Path) -> None:
    target = outside / "target"
    for place in (target, folder / "place"):
        place.mkdir()
    (target / "file").write_bytes(b"outside")
    (folder / "place" / "file").write_bytes(b"inside")
    (folder / "mine").write_bytes(b"mine")
    (folder / "other").symlink_to(target)
    before = _print(target)
    seen: dict[str, set[Errno]] = {}
    with WasiContext(preopens=[(folder, "/")]) as context, swapping(folder):
        guest = Guest(context)
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for name, errno in _attempts(guest):
                seen.setdefault(name, set()).add(errno)
                if errno == Errno.SUCCESS and name in {"open", "create", "up"}:
                    fd = guest.u32()
                    if name == "open":
                        assert guest.read(fd, 10) == b"inside"
                    guest.ok("fd_close", fd)
            for missing in ("mine", "place/file"):
                if guest.try_open(missing, oflags=OpenFlag.CREAT | OpenFlag.EXCL) == Errno.SUCCESS:
                    fd = guest.u32()
                    guest.write(fd, b"inside")
                    guest.ok("fd_close", fd)
    assert _print(target) == before
    for name in ("open", "filestat", "set times", "unlink"):
        # Both sides were met, or the race was none.
        assert {Errno.SUCCESS, Errno.NOTCAPABLE} <= seen[name], (name, seen[name])
