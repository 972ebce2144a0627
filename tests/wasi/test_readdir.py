"""fd_readdir: to the byte, with any size of buffer, from any cookie, while the directory changes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lucet.wasi import dirs
from lucet.wasi.tables import Errno, FileType
from tests.wasi.fake import DATA, RESULT, Guest


def row(cookie: int, ino: int, name: bytes, filetype: int) -> bytes:
    return struct.pack("<QQIBxxx", cookie, ino, len(name), filetype) + name


def test_an_empty_directory(guest: Guest, folder: Path) -> None:
    ino = folder.stat().st_ino
    rows = row(1, ino, b".", 3) + row(2, ino, b"..", 3)
    changes = {DATA: rows, RESULT: struct.pack("<I", len(rows))}
    guest.check(Errno.SUCCESS, changes, "fd_readdir", 3, DATA, 100, 0, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: b"\0\0\0\0"}, "fd_readdir", 3, DATA, 100, 2, RESULT)


def test_types_and_inodes(guest: Guest, folder: Path) -> None:
    (folder / "file").touch()
    (folder / "directory").mkdir()
    (folder / "link").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    (folder / "größe €").touch()
    found = {name.decode(): (ino, filetype) for _, ino, name, filetype in guest.readdir(3)}
    inos = {path.name: path.lstat().st_ino for path in folder.iterdir()}
    assert {name: ino for name, (ino, _) in found.items() if name not in {".", ".."}} == inos
    assert {name: filetype for name, (_, filetype) in found.items()} == {
        ".": FileType.DIRECTORY,
        "..": FileType.DIRECTORY,
        "file": FileType.REGULAR_FILE,
        "directory": FileType.DIRECTORY,
        "link": FileType.SYMBOLIC_LINK,
        "fifo": FileType.UNKNOWN,
        "größe €": FileType.REGULAR_FILE,
    }


@pytest.mark.parametrize("size", range(80))
def test_entries_are_cut_off_where_the_buffer_ends(guest: Guest, folder: Path, size: int) -> None:
    (folder / "file").touch()
    ino = folder.stat().st_ino
    rows = row(1, ino, b".", 3) + row(2, ino, b"..", 3) + row(3, (folder / "file").stat().st_ino, b"file", 4)
    changes = {DATA: rows[:size], RESULT: struct.pack("<I", min(size, len(rows)))}
    guest.check(Errno.SUCCESS, changes, "fd_readdir", 3, DATA, size, 0, RESULT)


def names(guest: Guest, fd: int, size: int) -> list[bytes]:
    """As wasi-libc reads: on from the last whole entry, with more room where not one entry fits."""
    result = []
    cookie = 0
    while True:
        rows = guest.readdir(fd, cookie, size)
        result += [name for _, _, name, _ in rows]
        if guest.u32() < size:
            return result
        if rows:
            cookie = rows[-1][0]
        else:
            size *= 2


@pytest.mark.parametrize("size", [1, 24, 40, 100, 4096])
def test_any_buffer_sees_every_entry_once(guest: Guest, folder: Path, size: int) -> None:
    expected = {b"%04d" % i + b"x" * (i % 200) for i in range(300)}
    for name in expected:
        (folder / os.fsdecode(name)).touch()
    found = names(guest, 3, size)
    assert len(found) == 302
    assert set(found) == expected | {b".", b".."}


def test_entries_removed_while_reading(guest: Guest, folder: Path) -> None:
    """What `rm -r` does: the rest is still found."""
    for i in range(500):
        (folder / f"file{i}").touch()
    cookie, removed = 0, 0
    while rows := guest.readdir(3, cookie, 200):
        for _, _, name, _ in rows:
            if name.startswith(b"file"):
                guest.ok("path_unlink_file", 3, *guest.path(name))
                removed += 1
        cookie = rows[-1][0]
    assert removed == 500
    assert not list(folder.iterdir())


def test_cookie_zero_looks_again(guest: Guest, folder: Path) -> None:
    assert len(guest.readdir(3)) == 2
    (folder / "new").touch()
    assert len(guest.readdir(3, 2)) == 0, "at the end of what was there"
    assert [name for _, _, name, _ in guest.readdir(3)] == [b".", b"..", b"new"]
    (folder / "new").unlink()
    assert len(guest.readdir(3)) == 2


@pytest.mark.parametrize("window", [1, 3, 4096])
def test_any_cookie_in_any_order(guest: Guest, folder: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(dirs, "LISTING_WINDOW", window)
    for i in range(20):
        (folder / f"{i}").touch()
    whole = guest.readdir(3)
    assert [cookie for cookie, *_ in whole] == list(range(1, 23))
    fd = guest.open_directory(".")
    for cookie in (7, 21, 22, 3, 4, 0, 19, 1, 22, 5):
        assert guest.readdir(fd, cookie) == whole[cookie:], cookie
        assert guest.readdir(fd, cookie, 60) == whole[cookie : cookie + 2]
    for cookie in (23, 1 << 32, (1 << 64) - 1):
        assert guest.readdir(fd, cookie) == []
    assert guest.readdir(fd, 2) == whole[2:]


def test_two_descriptors_read_independently(guest: Guest, folder: Path) -> None:
    for i in range(50):
        (folder / f"{i}").touch()
    one, two = guest.open_directory("."), guest.open_directory(".")
    rows = guest.readdir(one, 0, 200)
    assert guest.readdir(two, 0, 200) == rows
    assert guest.readdir(one, rows[-1][0]) == guest.readdir(two, rows[-1][0])


def test_names_that_are_not_utf8_are_left_out(guest: Guest, folder: Path) -> None:
    (folder / "good").touch()
    (folder / os.fsdecode(b"bad\xff")).touch()
    assert [name for _, _, name, _ in guest.readdir(3)] == [b".", b"..", b"good"]


def test_what_a_listing_holds_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirs, "LISTING_WINDOW", 8)
    for i in range(40):
        (folder / f"{i}").touch()
    fd = os.open(folder, os.O_RDONLY)
    listing = dirs.Listing(fd)
    assert len(list(listing.entries(0))) == 42
    assert len(listing._window) == 8
    listing.close()
    os.close(fd)


def test_closing_leaves_no_descriptor_of_the_host(guest: Guest, folder: Path) -> None:
    for i in range(100):
        (folder / f"{i}").touch()
    before = os.listdir("/proc/self/fd")
    fd = guest.open_directory(".")
    guest.readdir(fd, 0, 100)
    guest.ok("fd_close", fd)
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_gone(guest: Guest, folder: Path) -> None:
    (folder / "sub").mkdir()
    fd = guest.open_directory("sub")
    (folder / "sub").rmdir()
    assert [name for _, _, name, _ in guest.readdir(fd)] == [b".", b".."]
    assert guest.try_open("x", fd=fd, rights=0) == Errno.NOENT
