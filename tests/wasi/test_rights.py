"""Every operation, with and without its right, on every kind of preopen; and that rights only ever shrink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lucet.wasi import WasiContext
from lucet.wasi.tables import (
    ALL_RIGHTS,
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    READ_ONLY_RIGHTS,
    Errno,
    FdFlag,
    FstFlag,
    OpenFlag,
    Right,
)
from tests.wasi.fake import DATA, RESULT, Guest, guest_in

Try = Callable[[Guest, int], Errno]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One use of a call on descriptor fd, and the rights that it needs there."""

    name: str
    needs: int
    run: Try
    changes: bool = True
    """Whether it could change anything that the preopen shows."""


def _two_paths(name: str, old: str, new: str, *flags: int) -> Try:
    return lambda guest, fd: guest.call(name, fd, *flags, *guest.path(old), fd, *guest.path(new, 1))


def _open(path: str, **options: int) -> Try:
    return lambda guest, fd: guest.try_open(path, fd=fd, **options)


def _path(name: str, path: str, *rest: int) -> Try:
    return lambda guest, fd: guest.call(name, fd, *guest.path(path), *rest)


def _plain(name: str, *rest: int) -> Try:
    return lambda guest, fd: guest.call(name, fd, *rest)


ON_DIRECTORIES = [
    Operation(name="open to read", needs=Right.PATH_OPEN, run=_open("file", rights=Right.FD_READ), changes=False),
    Operation(name="open to stat", needs=Right.PATH_OPEN, run=_open("file", rights=0), changes=False),
    Operation(
        name="create", needs=Right.PATH_OPEN | Right.PATH_CREATE_FILE, run=_open("new", oflags=OpenFlag.CREAT, rights=0)
    ),
    Operation(
        name="truncate",
        needs=Right.PATH_OPEN | Right.PATH_FILESTAT_SET_SIZE,
        run=_open("file", oflags=OpenFlag.TRUNC, rights=0),
    ),
    Operation(name="mkdir", needs=Right.PATH_CREATE_DIRECTORY, run=_path("path_create_directory", "new")),
    Operation(name="rmdir", needs=Right.PATH_REMOVE_DIRECTORY, run=_path("path_remove_directory", "empty")),
    Operation(name="unlink", needs=Right.PATH_UNLINK_FILE, run=_path("path_unlink_file", "file")),
    Operation(
        name="readlink", needs=Right.PATH_READLINK, run=_path("path_readlink", "link", DATA, 9, RESULT), changes=False
    ),
    Operation(
        name="filestat",
        needs=Right.PATH_FILESTAT_GET,
        run=lambda guest, fd: guest.call("path_filestat_get", fd, 0, *guest.path("file"), RESULT),
        changes=False,
    ),
    Operation(
        name="set times",
        needs=Right.PATH_FILESTAT_SET_TIMES,
        run=lambda guest, fd: guest.call(
            "path_filestat_set_times", fd, 0, *guest.path("file"), 1, 1, FstFlag.ATIM | FstFlag.MTIM
        ),
    ),
    Operation(
        name="symlink",
        needs=Right.PATH_SYMLINK,
        run=lambda guest, fd: guest.call("path_symlink", *guest.path("x"), fd, *guest.path("new", 1)),
    ),
    Operation(
        name="rename",
        needs=Right.PATH_RENAME_SOURCE | Right.PATH_RENAME_TARGET,
        run=_two_paths("path_rename", "file", "new"),
    ),
    Operation(
        name="link",
        needs=Right.PATH_LINK_SOURCE | Right.PATH_LINK_TARGET,
        run=_two_paths("path_link", "file", "new", 0),
    ),
    Operation(name="readdir", needs=Right.FD_READDIR, run=_plain("fd_readdir", DATA, 99, 0, RESULT), changes=False),
    Operation(name="stat", needs=Right.FD_FILESTAT_GET, run=_plain("fd_filestat_get", RESULT), changes=False),
    Operation(
        name="set own times", needs=Right.FD_FILESTAT_SET_TIMES, run=_plain("fd_filestat_set_times", 1, 1, FstFlag.MTIM)
    ),
    Operation(name="sync", needs=Right.FD_SYNC, run=_plain("fd_sync")),
    Operation(name="datasync", needs=Right.FD_DATASYNC, run=_plain("fd_datasync")),
    Operation(
        name="set flags",
        needs=Right.FD_FDSTAT_SET_FLAGS,
        run=_plain("fd_fdstat_set_flags", FdFlag.NONBLOCK),
        changes=False,
    ),
]

READ_AT, WRITE_AT = Right.FD_READ | Right.FD_SEEK, Right.FD_WRITE | Right.FD_SEEK


def _transfer(name: str, *rest: int) -> Try:
    return lambda guest, fd: guest.call(name, fd, *guest.iovecs(b"ab"), *rest, RESULT)


ON_FILES = [
    Operation(name="read", needs=Right.FD_READ, run=_transfer("fd_read"), changes=False),
    Operation(name="write", needs=Right.FD_WRITE, run=_transfer("fd_write")),
    Operation(name="pread", needs=READ_AT, run=_transfer("fd_pread", 0), changes=False),
    Operation(name="pwrite", needs=WRITE_AT, run=_transfer("fd_pwrite", 0)),
    Operation(name="seek", needs=Right.FD_SEEK, run=_plain("fd_seek", 1, 0, RESULT), changes=False),
    Operation(name="advise", needs=Right.FD_ADVISE, run=_plain("fd_advise", 0, 1, 0), changes=False),
    Operation(name="allocate", needs=Right.FD_ALLOCATE, run=_plain("fd_allocate", 0, 99)),
    Operation(name="set size", needs=Right.FD_FILESTAT_SET_SIZE, run=_plain("fd_filestat_set_size", 1)),
    Operation(name="stat", needs=Right.FD_FILESTAT_GET, run=_plain("fd_filestat_get", RESULT), changes=False),
    Operation(
        name="set times", needs=Right.FD_FILESTAT_SET_TIMES, run=_plain("fd_filestat_set_times", 1, 1, FstFlag.MTIM)
    ),
    Operation(name="sync", needs=Right.FD_SYNC, run=_plain("fd_sync")),
    Operation(name="datasync", needs=Right.FD_DATASYNC, run=_plain("fd_datasync")),
    Operation(
        name="set flags",
        needs=Right.FD_FDSTAT_SET_FLAGS,
        run=_plain("fd_fdstat_set_flags", FdFlag.APPEND),
        changes=False,
    ),
]


def bits(rights: int) -> Iterator[int]:
    return (1 << i for i in range(30) if rights >> i & 1)


@pytest.fixture(autouse=True)
def tree(folder: Path) -> Path:
    (folder / "file").write_bytes(b"content")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("file")
    return folder


def snapshot(folder: Path) -> list[object]:
    paths = [folder, *sorted(folder.rglob("*"))]
    return [(p, p.lstat().st_size, p.lstat().st_mtime_ns, p.lstat().st_ino, p.lstat().st_nlink) for p in paths]


def named(operation: Operation) -> str:
    return operation.name


@pytest.mark.parametrize("operation", ON_DIRECTORIES, ids=named)
def test_directories(guest: Guest, folder: Path, operation: Operation) -> None:
    """Refused without any one of the rights, and then nothing happens; allowed with these alone."""
    before = snapshot(folder)
    for right in bits(operation.needs):
        fd = guest.open_directory(".", rights=DIRECTORY_RIGHTS & ~right)
        assert operation.run(guest, fd) == Errno.NOTCAPABLE, bin(right)
        assert snapshot(folder) == before
    fd = guest.open_directory(".", rights=operation.needs)
    assert operation.run(guest, fd) == Errno.SUCCESS
    assert (snapshot(folder) != before) == (operation.changes and operation.name not in {"sync", "datasync"})


@pytest.mark.parametrize("operation", ON_FILES, ids=named)
def test_files(guest: Guest, folder: Path, operation: Operation) -> None:
    before = snapshot(folder)
    for right in bits(operation.needs):
        fd = guest.open("file", rights=FILE_RIGHTS)
        guest.ok("fd_fdstat_set_rights", fd, FILE_RIGHTS & ~right, 0)
        assert operation.run(guest, fd) == Errno.NOTCAPABLE, bin(right)
        assert snapshot(folder) == before
    fd = guest.open("file", rights=FILE_RIGHTS)
    guest.ok("fd_fdstat_set_rights", fd, operation.needs, 0)
    assert operation.run(guest, fd) == Errno.SUCCESS
    assert (snapshot(folder) != before) == (operation.changes and operation.name not in {"sync", "datasync"})


@pytest.mark.parametrize("operation", ON_DIRECTORIES, ids=named)
def test_a_read_only_preopen_shows_all_and_changes_nothing(folder: Path, operation: Operation) -> None:
    before = snapshot(folder)
    with guest_in(folder, read_only=True) as guest:
        assert operation.run(guest, 3) == (Errno.NOTCAPABLE if operation.changes else Errno.SUCCESS)
        assert snapshot(folder) == before


@pytest.mark.parametrize("operation", ON_FILES, ids=named)
def test_a_file_of_a_read_only_preopen(folder: Path, operation: Operation) -> None:
    before = snapshot(folder)
    with guest_in(folder, read_only=True) as guest:
        # Libraries ask for everything that a reader might do; what the preopen has not is left out.
        fd = guest.open("file", rights=FILE_RIGHTS & ~Right.FD_WRITE)
        assert guest.fdstat(fd)[2] == FILE_RIGHTS & READ_ONLY_RIGHTS
        assert operation.run(guest, fd) == (Errno.NOTCAPABLE if operation.changes else Errno.SUCCESS)
        assert snapshot(folder) == before


def test_a_read_only_preopen_has_no_right_to_change(folder: Path) -> None:
    changing = Right.FD_WRITE | Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE | Right.FD_FILESTAT_SET_TIMES
    for name, right in vars(Right).items():
        if name.startswith("PATH_") and name not in {"PATH_OPEN", "PATH_READLINK", "PATH_FILESTAT_GET"}:
            changing |= right
    with guest_in(folder, read_only=True) as guest:
        _, _, rights, inheriting = guest.fdstat(3)
        assert not (rights | inheriting) & changing


def test_opening_for_what_cannot_be_inherited_is_refused(folder: Path) -> None:
    with guest_in(folder, read_only=True) as guest:
        assert guest.try_open("file", rights=Right.FD_WRITE) == Errno.NOTCAPABLE
        assert guest.try_open("file", rights=ALL_RIGHTS) == Errno.NOTCAPABLE
        assert guest.try_open("file", rights=Right.FD_READ, fdflags=FdFlag.SYNC) == Errno.NOTCAPABLE
    with guest_in(folder) as guest:
        writers = guest.open_directory(".", inheriting=ALL_RIGHTS & ~Right.FD_READ)
        assert guest.try_open("file", fd=writers, rights=Right.FD_READ) == Errno.NOTCAPABLE
        assert guest.try_open("file", fd=writers, rights=Right.FD_WRITE) == Errno.SUCCESS


def test_synchronising_flags_need_their_rights(guest: Guest) -> None:
    for rights, allowed in (
        (0, set()),
        (Right.FD_DATASYNC, {FdFlag.DSYNC}),
        (Right.FD_SYNC, {FdFlag.DSYNC, FdFlag.RSYNC, FdFlag.SYNC}),
    ):
        fd = guest.open_directory(".", inheriting=Right.FD_READ | rights)
        for flag in (FdFlag.DSYNC, FdFlag.RSYNC, FdFlag.SYNC):
            errno = guest.try_open("file", fd=fd, rights=Right.FD_READ, fdflags=flag)
            assert errno == (Errno.SUCCESS if flag in allowed else Errno.NOTCAPABLE), (bin(rights), flag)


def test_rights_shrink_along_a_chain_of_directories(guest: Guest, folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    inheriting = Right.PATH_OPEN | Right.FD_READ | Right.FD_READDIR
    a = guest.open_directory("a", inheriting=inheriting)
    b = guest.open_directory("b", fd=a)
    assert guest.fdstat(b)[2:] == (inheriting & DIRECTORY_RIGHTS, inheriting)
    file = guest.open("file", fd=b, rights=FILE_RIGHTS & ~Right.FD_WRITE)
    assert guest.fdstat(file)[2:] == (Right.FD_READ, 0)


def test_rights_cannot_be_regained(guest: Guest) -> None:
    fd = guest.open("file", rights=FILE_RIGHTS)
    guest.ok("fd_fdstat_set_rights", fd, Right.FD_READ | Right.FD_SEEK, 0)
    for base, inheriting in ((FILE_RIGHTS, 0), (Right.FD_WRITE, 0), (Right.FD_READ, 1), (1 << 63, 0), (0, 1 << 30)):
        guest.check(Errno.NOTCAPABLE, {}, "fd_fdstat_set_rights", fd, base, inheriting)
    assert guest.fdstat(fd)[2:] == (Right.FD_READ | Right.FD_SEEK, 0)
    guest.check(Errno.SUCCESS, {}, "fd_fdstat_set_rights", fd, 0, 0)
    guest.check(Errno.NOTCAPABLE, {}, "fd_fdstat_set_rights", fd, Right.FD_READ, 0)


def test_seek_implies_tell(guest: Guest) -> None:
    for rights, tell, move in (
        (Right.FD_SEEK, Errno.SUCCESS, Errno.SUCCESS),
        (Right.FD_TELL, Errno.SUCCESS, Errno.NOTCAPABLE),
        (Right.FD_READ, Errno.NOTCAPABLE, Errno.NOTCAPABLE),
    ):
        fd = guest.open("file", rights=rights)
        assert guest.call("fd_tell", fd, RESULT) == tell
        assert guest.call("fd_seek", fd, 0, 1, RESULT) == tell, "not a move"
        assert guest.call("fd_seek", fd, 1, 1, RESULT) == move
        assert guest.call("fd_seek", fd, 0, 0, RESULT) == move


KINDS = {"all": ALL_RIGHTS, "read only": READ_ONLY_RIGHTS, "no writing": ALL_RIGHTS & ~Right.FD_WRITE}


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("call", ["path_link", "path_rename"])
def test_links_and_renames_across_directories(
    tmp_path: Path, folder: Path, source: str, target: str, call: str
) -> None:
    """A file may be named anew only where no more can be done with it."""
    other = tmp_path / "other"
    other.mkdir()
    with WasiContext(preopens=[(folder, "/"), (other, "/other")]) as context:
        guest = Guest(context)
        old = guest.open_directory(".", fd=3, rights=KINDS[source], inheriting=KINDS[source])
        new = guest.open_directory(".", fd=4, rights=KINDS[target], inheriting=KINDS[target])
        flags = [0] if call == "path_link" else []
        errno = guest.call(call, old, *flags, *guest.path("file"), new, *guest.path("taken", 1))
        is_allowed = "read only" not in {source, target} and not (source == "no writing" and target == "all")
        assert errno == (Errno.SUCCESS if is_allowed else Errno.NOTCAPABLE)
        assert (other / "taken").exists() == is_allowed


def test_a_link_may_not_gain_what_is_done_through_its_directory(guest: Guest, folder: Path) -> None:
    for right in (Right.PATH_FILESTAT_SET_SIZE, Right.PATH_FILESTAT_SET_TIMES):
        old = guest.open_directory(".", rights=DIRECTORY_RIGHTS & ~right)
        new = guest.open_directory("empty")
        errno = guest.call("path_link", old, 0, *guest.path("file"), new, *guest.path("taken", 1))
        assert errno == Errno.NOTCAPABLE
    assert not list((folder / "empty").iterdir())


def test_every_right_is_needed_by_some_operation() -> None:
    """Sockets and polling have their own tests."""
    tested = 0
    for operation in ON_DIRECTORIES + ON_FILES:
        tested |= operation.needs
    others = Right.POLL_FD_READWRITE | Right.SOCK_ACCEPT | Right.SOCK_SHUTDOWN | Right.FD_TELL
    assert tested | others == ALL_RIGHTS
    assert not tested & others
