"""The path_ calls: what they do, and the right errno where they do not."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lucet.wasi.tables import Errno, FileType, FstFlag, OpenFlag, Right
from tests.wasi.fake import DATA, FOLLOW, RESULT, Guest

CREAT, DIRECTORY, EXCL, TRUNC = OpenFlag.CREAT, OpenFlag.DIRECTORY, OpenFlag.EXCL, OpenFlag.TRUNC


@pytest.fixture(autouse=True)
def tree(folder: Path) -> None:
    (folder / "file").write_bytes(b"content")
    (folder / "empty").mkdir()
    (folder / "full" / "sub").mkdir(parents=True)
    (folder / "full" / "inside").write_bytes(b"inside")
    (folder / "to-file").symlink_to("file")
    (folder / "to-full").symlink_to("full")
    (folder / "to-sub").symlink_to("to-full/sub/")
    (folder / "dangling").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("path", "oflags", "follow", "errno"),
    [
        ("file", 0, FOLLOW, Errno.SUCCESS),
        ("file", 0, 0, Errno.SUCCESS),
        ("./full/../file", 0, 0, Errno.SUCCESS),
        ("full//sub/.././inside", 0, 0, Errno.SUCCESS),
        ("to-full/inside", 0, 0, Errno.SUCCESS),
        ("to-file", 0, FOLLOW, Errno.SUCCESS),
        ("to-file", 0, 0, Errno.LOOP),
        ("to-file", CREAT | EXCL, FOLLOW, Errno.EXIST),
        ("dangling", 0, FOLLOW, Errno.NOENT),
        ("dangling", 0, 0, Errno.LOOP),
        ("dangling", CREAT, FOLLOW, Errno.SUCCESS),
        ("loop", 0, FOLLOW, Errno.LOOP),
        ("loop", 0, 0, Errno.LOOP),
        ("", 0, 0, Errno.NOENT),
        ("nothing", 0, 0, Errno.NOENT),
        ("nothing/", 0, 0, Errno.NOENT),
        ("file/", 0, 0, Errno.NOTDIR),
        ("file/x", 0, 0, Errno.NOTDIR),
        ("file", DIRECTORY, 0, Errno.NOTDIR),
        ("file", CREAT | EXCL, 0, Errno.EXIST),
        ("new/", CREAT, 0, Errno.ISDIR),
        ("new", CREAT | DIRECTORY, 0, Errno.INVAL),
        ("full", 0, 0, Errno.ISDIR),  # for writing
        ("full", DIRECTORY, 0, Errno.ISDIR),
        ("full", CREAT, 0, Errno.ISDIR),
        ("full", TRUNC, 0, Errno.ISDIR),
        ("x" * 255, CREAT, 0, Errno.SUCCESS),
        ("x" * 256, CREAT, 0, Errno.NAMETOOLONG),
        ("./" * 2047 + "x", CREAT, 0, Errno.SUCCESS),
        ("./" * 2048 + "x", CREAT, 0, Errno.NAMETOOLONG),
        ("file\0", 0, 0, Errno.INVAL),
        ("file\0x", 0, 0, Errno.INVAL),
        (b"\xff", CREAT, 0, Errno.ILSEQ),
        (b"\xed\xa0\x80", CREAT, 0, Errno.ILSEQ),
        ("file", 16, 0, Errno.INVAL),
        ("file", 1 << 31, 0, Errno.INVAL),
        ("file", 0, 2, Errno.INVAL),
        ("file", 0, 0xFFFFFFFF, Errno.INVAL),
        ("zwölf €", CREAT, 0, Errno.SUCCESS),
    ],
)
def test_open(guest: Guest, folder: Path, path: str | bytes, oflags: int, follow: int, errno: Errno) -> None:
    before = sorted(os.listdir(folder))
    changes = {RESULT: struct.pack("<I", 4)} if errno == Errno.SUCCESS else {}
    rights = Right.FD_READ | Right.FD_WRITE
    guest.check(errno, changes, "path_open", 3, follow, *guest.path(path), oflags, rights, 0, 0, RESULT)
    if errno != Errno.SUCCESS:
        assert sorted(os.listdir(folder)) == before
        guest.check(Errno.BADF, {}, "fd_close", 4)


def test_open_flags_of_the_descriptor(guest: Guest) -> None:
    assert guest.try_open("file", fdflags=32) == Errno.INVAL
    assert guest.try_open("file", fdflags=1 << 31) == Errno.INVAL


def test_truncate(guest: Guest, folder: Path) -> None:
    guest.open("file", oflags=TRUNC)
    assert (folder / "file").read_bytes() == b""


def test_new_files_follow_the_umask(guest: Guest, folder: Path) -> None:
    old = os.umask(0o027)
    try:
        guest.open("new", oflags=CREAT)
        guest.ok("path_create_directory", 3, *guest.path("newdir"))
    finally:
        os.umask(old)
    assert (folder / "new").stat().st_mode & 0o7777 == 0o640
    assert (folder / "newdir").stat().st_mode & 0o7777 == 0o750


def test_an_open_directory_is_a_place_to_start_from(guest: Guest) -> None:
    sub = guest.open_directory("full")
    assert guest.fdstat(sub)[0] == FileType.DIRECTORY
    assert guest.read(guest.open("inside", fd=sub), 20) == b"inside"
    assert guest.try_open("../file", fd=sub) == Errno.NOTCAPABLE


def test_no_host_descriptor_is_left_over(guest: Guest, folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for path in ("file", "full/inside", "nothing", "file/x", "../x"):
        if guest.try_open(path) == Errno.SUCCESS:
            guest.ok("fd_close", guest.u32())
        for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
            guest.call(name, 3, *guest.path(path))
        guest.call("path_filestat_get", 3, FOLLOW, *guest.path(path), RESULT)
        guest.call("path_filestat_set_times", 3, FOLLOW, *guest.path(path), 1, 1, FstFlag.ATIM)
        guest.call("path_link", 3, FOLLOW, *guest.path(path), 3, *guest.path("full/x", 1))
        guest.call("path_rename", 3, *guest.path(path), 3, *guest.path("full/y", 1))
        guest.call("path_readlink", 3, *guest.path(path), RESULT, 9, RESULT)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("new", Errno.SUCCESS),
        ("new/", Errno.SUCCESS),
        ("new//", Errno.SUCCESS),
        ("full/sub/new", Errno.SUCCESS),
        ("to-full/new", Errno.SUCCESS),
        ("empty", Errno.EXIST),
        ("empty/", Errno.EXIST),
        ("file", Errno.EXIST),
        ("dangling", Errno.EXIST),
        ("dangling/", Errno.EXIST),
        (".", Errno.EXIST),
        ("empty/.", Errno.EXIST),
        ("empty/..", Errno.EXIST),
        ("nothing/new", Errno.NOENT),
        ("file/new", Errno.NOTDIR),
        ("", Errno.NOENT),
        ("x" * 256, Errno.NAMETOOLONG),
    ],
)
def test_create_directory(guest: Guest, folder: Path, path: str, errno: Errno) -> None:
    guest.check(errno, {}, "path_create_directory", 3, *guest.path(path))
    if errno == Errno.SUCCESS:
        assert (folder / path).is_dir()
    assert not (folder / "nothing").exists()


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("empty", Errno.SUCCESS),
        ("empty/", Errno.SUCCESS),
        ("full/../empty", Errno.SUCCESS),
        ("full", Errno.NOTEMPTY),
        ("file", Errno.NOTDIR),
        ("file/", Errno.NOTDIR),
        ("to-full", Errno.NOTDIR),
        ("to-full/", Errno.NOTDIR),
        ("nothing", Errno.NOENT),
        (".", Errno.INVAL),
        ("empty/.", Errno.INVAL),
        ("", Errno.NOENT),
    ],
)
def test_remove_directory(guest: Guest, folder: Path, path: str, errno: Errno) -> None:
    guest.check(errno, {}, "path_remove_directory", 3, *guest.path(path))
    assert (folder / "empty").exists() == (errno != Errno.SUCCESS)
    assert (folder / "full" / "inside").exists()


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("file", Errno.SUCCESS),
        ("to-file", Errno.SUCCESS),
        ("dangling", Errno.SUCCESS),
        ("to-full", Errno.SUCCESS),
        ("to-full/inside", Errno.SUCCESS),
        ("file/", Errno.NOTDIR),
        ("to-full/", Errno.NOTDIR),
        ("to-file/", Errno.NOTDIR),
        ("empty", Errno.ISDIR),
        ("empty/", Errno.ISDIR),
        (".", Errno.ISDIR),
        ("empty/..", Errno.ISDIR),
        ("nothing", Errno.NOENT),
        ("nothing/", Errno.NOENT),
        ("", Errno.NOENT),
    ],
)
def test_unlink(guest: Guest, folder: Path, path: str, errno: Errno) -> None:
    names = {"file", "to-file", "dangling", "to-full"}
    before = set(os.listdir(folder))
    guest.check(errno, {}, "path_unlink_file", 3, *guest.path(path))
    assert set(os.listdir(folder)) == (before - {path} if errno == Errno.SUCCESS and path in names else before)


@pytest.mark.parametrize(
    ("old", "new", "errno"),
    [
        ("file", "moved", Errno.SUCCESS),
        ("file", "full/moved", Errno.SUCCESS),
        ("file", "full/inside", Errno.SUCCESS),
        ("file", "to-full/moved", Errno.SUCCESS),
        ("file", "to-file", Errno.SUCCESS),
        ("to-file", "moved", Errno.SUCCESS),
        ("empty/", "moved/", Errno.SUCCESS),
        ("full", "empty", Errno.SUCCESS),
        ("file", "file", Errno.SUCCESS),
        ("empty", "full", Errno.NOTEMPTY),
        ("empty", "file", Errno.NOTDIR),
        ("file", "empty", Errno.ISDIR),
        ("file/", "moved", Errno.NOTDIR),
        ("file", "moved/", Errno.NOTDIR),
        ("to-full/", "moved", Errno.NOTDIR),
        ("full", "full/sub/x", Errno.INVAL),
        ("nothing", "moved", Errno.NOENT),
        ("file", "nothing/moved", Errno.NOENT),
        (".", "moved", Errno.BUSY),
        ("empty", ".", Errno.BUSY),
        ("", "moved", Errno.NOENT),
        ("file", "", Errno.NOENT),
    ],
)
def test_rename(guest: Guest, folder: Path, old: str, new: str, errno: Errno) -> None:
    before = sorted(folder.rglob("*"))
    guest.check(errno, {}, "path_rename", 3, *guest.path(old), 3, *guest.path(new, 1))
    if errno == Errno.SUCCESS:
        assert os.path.lexists(folder / new)
        assert old == new or not os.path.lexists(folder / old)
    else:
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("old", "follow", "new", "errno"),
    [
        ("file", 0, "other", Errno.SUCCESS),
        ("full/inside", 0, "to-full/sub/other", Errno.SUCCESS),
        ("to-file", 0, "other", Errno.SUCCESS),
        ("to-file", FOLLOW, "other", Errno.SUCCESS),
        ("dangling", 0, "other", Errno.SUCCESS),
        ("dangling", FOLLOW, "other", Errno.NOENT),
        ("loop", 0, "other", Errno.SUCCESS),
        ("loop", FOLLOW, "other", Errno.LOOP),
        ("file", 0, "full/inside", Errno.EXIST),
        ("file", 0, "file", Errno.EXIST),
        ("file", 0, "empty", Errno.EXIST),
        ("file", 0, "dangling", Errno.EXIST),
        ("file", 0, ".", Errno.EXIST),
        ("file", 0, "other/", Errno.NOENT),
        ("file/", 0, "other", Errno.NOTDIR),
        ("to-file/", 0, "other", Errno.NOTDIR),
        ("full", 0, "other", Errno.PERM),
        ("to-full", FOLLOW, "other", Errno.PERM),
        ("to-full/", 0, "other", Errno.PERM),
        (".", 0, "other", Errno.PERM),
        ("empty/..", 0, "other", Errno.PERM),
        ("nothing", 0, "other", Errno.NOENT),
        ("file", 2, "other", Errno.INVAL),
        ("", 0, "other", Errno.NOENT),
        ("file", 0, "", Errno.NOENT),
    ],
)
def test_link(guest: Guest, folder: Path, old: str, follow: int, new: str, errno: Errno) -> None:
    before = sorted(folder.rglob("*"))
    guest.check(errno, {}, "path_link", 3, follow, *guest.path(old), 3, *guest.path(new, 1))
    if errno == Errno.SUCCESS:
        target = (folder / old).stat() if follow else (folder / old).lstat()
        assert (folder / new).lstat().st_ino == target.st_ino
    else:
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("target", "path", "errno"),
    [
        ("file", "link", Errno.SUCCESS),
        ("../anything", "link", Errno.SUCCESS),  # it can be made; it cannot be followed out
        ("nothing/", "full/link", Errno.SUCCESS),
        ("/", "link", Errno.NOTCAPABLE),
        ("/etc/passwd", "link", Errno.NOTCAPABLE),
        ("", "link", Errno.NOENT),
        ("x\0", "link", Errno.INVAL),
        (b"\xff", "link", Errno.ILSEQ),
        ("file", "link/", Errno.NOENT),
        ("file", "file", Errno.EXIST),
        ("file", "empty", Errno.EXIST),
        ("file", "dangling", Errno.EXIST),
        ("file", ".", Errno.EXIST),
        ("file", "nothing/link", Errno.NOENT),
    ],
)
def test_symlink(guest: Guest, folder: Path, target: str | bytes, path: str, errno: Errno) -> None:
    before = sorted(folder.rglob("*"))
    guest.check(errno, {}, "path_symlink", *guest.path(target), 3, *guest.path(path, 1))
    if errno == Errno.SUCCESS:
        assert os.readlink(folder / path) == target
    else:
        assert sorted(folder.rglob("*")) == before


def test_readlink(guest: Guest, folder: Path) -> None:
    place = guest.path("to-file")
    guest.check(Errno.SUCCESS, {DATA: b"file", RESULT: b"\4\0\0\0"}, "path_readlink", 3, *place, DATA, 10, RESULT)
    guest.check(Errno.SUCCESS, {DATA: b"fil", RESULT: b"\3\0\0\0"}, "path_readlink", 3, *place, DATA, 3, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: b"\0\0\0\0"}, "path_readlink", 3, *place, DATA, 0, RESULT)
    for path, errno in (
        ("file", Errno.INVAL),
        ("full", Errno.INVAL),
        ("to-full/", Errno.INVAL),
        (".", Errno.INVAL),
        ("to-file/", Errno.NOTDIR),
        ("nothing", Errno.NOENT),
        ("", Errno.NOENT),
    ):
        guest.check(errno, {}, "path_readlink", 3, *guest.path(path), DATA, 10, RESULT)
    os.symlink(b"\xff", os.fsencode(folder / "bytes"))
    guest.check(Errno.ILSEQ, {}, "path_readlink", 3, *guest.path("bytes"), DATA, 10, RESULT)


@pytest.mark.parametrize(
    ("path", "follow", "host"),
    [
        ("file", 0, "file"),
        ("full", FOLLOW, "full"),
        ("to-file", FOLLOW, "file"),
        ("to-full/", 0, "full"),
        ("to-full/inside", 0, "full/inside"),
        ("to-sub", FOLLOW, "full/sub"),
        (".", 0, "."),
        ("full/sub/..", 0, "full"),
    ],
)
def test_filestat_and_times_of_what_a_path_leads_to(
    guest: Guest, folder: Path, path: str, follow: int, host: str
) -> None:
    links = {link: link.lstat().st_mtime_ns for link in folder.iterdir() if link.is_symlink()}
    assert guest.stat(path, follow=follow).ino == (folder / host).stat().st_ino
    flags = FstFlag.ATIM | FstFlag.MTIM
    guest.check(Errno.SUCCESS, {}, "path_filestat_set_times", 3, follow, *guest.path(path), 11, 22, flags)
    assert (folder / host).stat().st_mtime_ns == 22
    guest.check(Errno.SUCCESS, {}, "path_filestat_set_times", 3, follow, *guest.path(path), 33, 0, FstFlag.ATIM)
    assert ((folder / host).stat().st_atime_ns, (folder / host).stat().st_mtime_ns) == (33, 22)
    now = FstFlag.ATIM_NOW | FstFlag.MTIM_NOW
    guest.check(Errno.SUCCESS, {}, "path_filestat_set_times", 3, follow, *guest.path(path), 0, 0, now)
    assert (folder / host).stat().st_mtime_ns > 10**18
    assert {link: link.lstat().st_mtime_ns for link in links} == links


@pytest.mark.parametrize("path", ["to-file", "dangling", "loop"])
def test_filestat_and_times_of_a_link_itself(guest: Guest, folder: Path, path: str) -> None:
    before = (folder / "file").stat()
    assert guest.stat(path, follow=0).filetype == FileType.SYMBOLIC_LINK
    flags = FstFlag.ATIM | FstFlag.MTIM
    guest.check(Errno.SUCCESS, {}, "path_filestat_set_times", 3, 0, *guest.path(path), 11, 22, flags)
    assert (folder / path).lstat().st_mtime_ns == 22
    assert (folder / "file").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("path", "follow", "errno"),
    [
        ("nothing", 0, Errno.NOENT),
        ("dangling", FOLLOW, Errno.NOENT),
        ("loop", FOLLOW, Errno.LOOP),
        ("file/", 0, Errno.NOTDIR),
        ("to-file/", FOLLOW, Errno.NOTDIR),
        ("", 0, Errno.NOENT),
        ("file", 2, Errno.INVAL),
    ],
)
def test_no_filestat(guest: Guest, path: str, follow: int, errno: Errno) -> None:
    guest.check(errno, {}, "path_filestat_get", 3, follow, *guest.path(path), RESULT)
    guest.check(errno, {}, "path_filestat_set_times", 3, follow, *guest.path(path), 1, 1, FstFlag.ATIM)


def test_a_chain_of_links_has_an_end(guest: Guest, folder: Path) -> None:
    for i in range(41):
        (folder / f"link{i}").symlink_to(f"link{i + 1}" if i < 40 else "file")
    flags = (FstFlag.MTIM,)
    guest.check(Errno.SUCCESS, {}, "path_filestat_set_times", 3, FOLLOW, *guest.path("link1"), 0, 22, *flags)
    assert (folder / "file").stat().st_mtime_ns == 22
    guest.check(Errno.LOOP, {}, "path_filestat_set_times", 3, FOLLOW, *guest.path("link0"), 0, 33, *flags)
    assert guest.try_open("link1") == Errno.SUCCESS
    assert guest.try_open("link0") == Errno.LOOP, "the kernel counts the same"
