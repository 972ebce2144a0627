"""The fd_ calls on files: what they do to the file, and to the byte what they do to memory."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest

from lucet.wasi.tables import (
    ALL_RIGHTS,
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    PREVIEW0,
    Errno,
    FdFlag,
    FileType,
    FstFlag,
    OpenFlag,
    Right,
)
from tests.wasi.fake import DATA, RESULT, SIZE, Guest, guest_in

SET, CUR, END = range(3)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


@pytest.fixture
def fd(guest: Guest, folder: Path) -> int:
    (folder / "file").write_bytes(b"0123456789")
    return guest.open("file")


def test_write_gathers(guest: Guest, folder: Path) -> None:
    new = guest.open("new", oflags=OpenFlag.CREAT)
    iovecs = guest.iovecs(b"one", b"", b"two")
    guest.check(Errno.SUCCESS, {RESULT: u32(6)}, "fd_write", new, *iovecs, RESULT)
    assert (folder / "new").read_bytes() == b"onetwo"


def test_read_scatters_and_stops_at_the_end(guest: Guest, fd: int) -> None:
    iovecs = guest.iovecs(3, 0, 4)
    guest.check(Errno.SUCCESS, {DATA: b"0123456", RESULT: u32(7)}, "fd_read", fd, *iovecs, RESULT)
    guest.check(Errno.SUCCESS, {DATA: b"789", RESULT: u32(3)}, "fd_read", fd, *iovecs, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u32(0)}, "fd_read", fd, *iovecs, RESULT)


def test_read_into_overlapping_buffers(guest: Guest, fd: int) -> None:
    guest.memory.write(0x2400, struct.pack("<4I", DATA, 4, DATA + 2, 4))
    guest.check(Errno.SUCCESS, {DATA: b"014567", RESULT: u32(8)}, "fd_read", fd, 0x2400, 2, RESULT)


def test_a_buffer_may_lie_over_its_own_iovec(guest: Guest, fd: int) -> None:
    guest.memory.write(0x2400, struct.pack("<II", 0x2400, 8))
    guest.check(Errno.SUCCESS, {0x2400: b"01234567", RESULT: u32(8)}, "fd_read", fd, 0x2400, 1, RESULT)


def test_buffers_at_the_end_of_memory(guest: Guest, fd: int) -> None:
    guest.memory.write(SIZE - 8, struct.pack("<II", SIZE - 20, 10))
    guest.check(Errno.SUCCESS, {SIZE - 20: b"0123456789", SIZE - 24: u32(10)}, "fd_read", fd, SIZE - 8, 1, SIZE - 24)


@pytest.mark.parametrize(("pointer", "length"), [(SIZE - 9, 10), (SIZE, 1), (0xFFFFFFFF, 1), (0xFFFFFFFF, 0xFFFFFFFF)])
@pytest.mark.parametrize("name", ["fd_read", "fd_write", "fd_pread", "fd_pwrite"])
def test_a_buffer_out_of_range_moves_nothing(
    guest: Guest, folder: Path, fd: int, name: str, pointer: int, length: int
) -> None:
    guest.memory.write(0x2400, struct.pack("<4I", DATA, 4, pointer, length))
    offset = [0] if name.startswith("fd_p") else []
    guest.check(Errno.FAULT, {}, name, fd, 0x2400, 2, *offset, RESULT)
    assert (folder / "file").read_bytes() == b"0123456789"
    guest.check(Errno.SUCCESS, {RESULT: u64(0)}, "fd_tell", fd, RESULT)


@pytest.mark.parametrize("name", ["fd_read", "fd_write"])
def test_a_result_out_of_range_moves_nothing(guest: Guest, folder: Path, fd: int, name: str) -> None:
    guest.check(Errno.FAULT, {}, name, fd, *guest.iovecs(b"abc"), SIZE - 3)
    assert (folder / "file").read_bytes() == b"0123456789"
    guest.check(Errno.SUCCESS, {RESULT: u64(0)}, "fd_tell", fd, RESULT)


def test_number_of_iovecs(guest: Guest, fd: int) -> None:
    rows = b"".join(struct.pack("<II", DATA, 0) for _ in range(1023)) + struct.pack("<II", DATA, 2)
    guest.memory.write(0x8000, rows)
    guest.check(Errno.SUCCESS, {DATA: b"01", RESULT: u32(2)}, "fd_read", fd, 0x8000, 1024, RESULT)
    guest.check(Errno.INVAL, {}, "fd_read", fd, 0x8000, 1025, RESULT)
    guest.check(Errno.INVAL, {}, "fd_write", fd, 0x8000, 1025, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u32(0)}, "fd_read", fd, 0x8000, 0, RESULT)


def test_pread_and_pwrite_leave_the_offset(guest: Guest, folder: Path, fd: int) -> None:
    guest.ok("fd_seek", fd, 1, SET, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u32(2)}, "fd_pwrite", fd, *guest.iovecs(b"ab"), 8, RESULT)
    guest.check(Errno.SUCCESS, {DATA: b"7ab", RESULT: u32(3)}, "fd_pread", fd, *guest.iovecs(5), 7, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u64(1)}, "fd_tell", fd, RESULT)
    assert (folder / "file").read_bytes() == b"01234567ab"


@pytest.mark.parametrize("offset", [1 << 63, (1 << 64) - 1])
def test_offsets_beyond_the_host_s(guest: Guest, fd: int, offset: int) -> None:
    for name in ("fd_pread", "fd_pwrite"):
        guest.check(Errno.INVAL, {}, name, fd, *guest.iovecs(b"a"), offset, RESULT)
    guest.check(Errno.INVAL, {}, "fd_filestat_set_size", fd, offset)
    guest.check(Errno.INVAL, {}, "fd_allocate", fd, offset, 1)
    guest.check(Errno.INVAL, {}, "fd_allocate", fd, 1, offset)
    guest.check(Errno.INVAL, {}, "fd_advise", fd, offset, 1, 0)
    guest.check(Errno.INVAL, {}, "fd_advise", fd, 1, offset, 0)


def test_a_large_file_is_sparse(guest: Guest, folder: Path) -> None:
    new = guest.open("new", oflags=OpenFlag.CREAT)
    far = 5 << 32
    guest.check(Errno.SUCCESS, {RESULT: u64(far)}, "fd_seek", new, far, SET, RESULT)
    guest.write(new, b"x")
    assert guest.filestat(new).size == far + 1
    assert (folder / "new").stat().st_blocks < 1000
    guest.check(Errno.SUCCESS, {DATA: b"\0x", RESULT: u32(2)}, "fd_pread", new, *guest.iovecs(9), far - 1, RESULT)


@pytest.mark.parametrize(
    ("offset", "whence", "result"),
    [(4, SET, 4), (0, CUR, 5), (3, CUR, 8), (-2, CUR, 3), (0, END, 10), (-10, END, 0), (5, END, 15)],
)
def test_seek(guest: Guest, fd: int, offset: int, whence: int, result: int) -> None:
    guest.ok("fd_seek", fd, 5, SET, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u64(result)}, "fd_seek", fd, offset % (1 << 64), whence, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u64(result)}, "fd_tell", fd, RESULT)


@pytest.mark.parametrize(("offset", "whence"), [(-1, SET), (-6, CUR), (-11, END), (1 << 63, SET), (0, 3), (0, 1 << 31)])
def test_bad_seek_stays(guest: Guest, fd: int, offset: int, whence: int) -> None:
    guest.ok("fd_seek", fd, 5, SET, RESULT)
    guest.check(Errno.INVAL, {}, "fd_seek", fd, offset % (1 << 64), whence, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: u64(5)}, "fd_tell", fd, RESULT)


def test_preview_0_counts_whence_and_lays_out_filestat_differently(folder: Path) -> None:
    (folder / "file").write_bytes(b"0123456789")
    with guest_in(folder) as guest:
        old = Guest(guest.context, abi=PREVIEW0)
        fd = old.open("file")
        old.check(Errno.SUCCESS, {RESULT: u64(4)}, "fd_seek", fd, 4, 2, RESULT)  # set
        old.check(Errno.SUCCESS, {RESULT: u64(5)}, "fd_seek", fd, 1, 0, RESULT)  # cur
        old.check(Errno.SUCCESS, {RESULT: u64(9)}, "fd_seek", fd, (1 << 64) - 1, 1, RESULT)  # end
        host = (folder / "file").stat()
        row = struct.pack(
            "<QQBxxxIQQQQ", host.st_dev, host.st_ino, 4, 1, 10, host.st_atime_ns, host.st_mtime_ns, host.st_ctime_ns
        )
        old.check(Errno.SUCCESS, {RESULT: row}, "fd_filestat_get", fd, RESULT)
        old.check(Errno.SUCCESS, {RESULT: row}, "path_filestat_get", 3, 0, *old.path("file"), RESULT)


def test_filestat(guest: Guest, folder: Path, fd: int) -> None:
    os.link(folder / "file", folder / "other")
    host = (folder / "file").stat()
    row = struct.pack(
        "<QQBxxxxxxxQQQQQ", host.st_dev, host.st_ino, 4, 2, 10, host.st_atime_ns, host.st_mtime_ns, host.st_ctime_ns
    )
    guest.check(Errno.SUCCESS, {RESULT: row}, "fd_filestat_get", fd, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: row}, "path_filestat_get", 3, 0, *guest.path("file"), RESULT)


def test_fdstat(guest: Guest, folder: Path) -> None:
    (folder / "file").touch()
    rights = Right.FD_READ | Right.FD_TELL
    fd = guest.open("file", rights=rights, fdflags=FdFlag.APPEND)
    row = struct.pack("<BxHxxxxQQ", FileType.REGULAR_FILE, FdFlag.APPEND, rights, 0)
    guest.check(Errno.SUCCESS, {RESULT: row}, "fd_fdstat_get", fd, RESULT)
    row = struct.pack("<BxHxxxxQQ", FileType.DIRECTORY, 0, DIRECTORY_RIGHTS, ALL_RIGHTS)
    guest.check(Errno.SUCCESS, {RESULT: row}, "fd_fdstat_get", 3, RESULT)


def test_append(guest: Guest, folder: Path, fd: int) -> None:
    appending = guest.open("file", fdflags=FdFlag.APPEND)
    guest.write(appending, b"ab")
    guest.ok("fd_seek", appending, 0, SET, RESULT)
    guest.write(appending, b"cd")
    assert (folder / "file").read_bytes() == b"0123456789abcd"
    guest.ok("fd_fdstat_set_flags", appending, 0)
    guest.ok("fd_seek", appending, 0, SET, RESULT)
    guest.write(appending, b"ef")
    guest.ok("fd_fdstat_set_flags", fd, FdFlag.APPEND | FdFlag.NONBLOCK)
    assert guest.fdstat(fd)[1] == FdFlag.APPEND | FdFlag.NONBLOCK
    guest.write(fd, b"gh")
    assert (folder / "file").read_bytes() == b"ef23456789abcdgh"


@pytest.mark.parametrize(("flags", "errno"), [(32, Errno.INVAL), (1 << 31, Errno.INVAL), (FdFlag.SYNC, Errno.NOTSUP)])
def test_flags_that_cannot_be_set(guest: Guest, fd: int, flags: int, errno: Errno) -> None:
    guest.check(errno, {}, "fd_fdstat_set_flags", fd, flags)
    assert guest.fdstat(fd)[1] == 0


@pytest.mark.parametrize("flags", [FdFlag.DSYNC, FdFlag.RSYNC, FdFlag.SYNC, FdFlag.SYNC | FdFlag.APPEND])
def test_synchronising_flags_at_opening(guest: Guest, folder: Path, flags: int) -> None:
    fd = guest.open("new", oflags=OpenFlag.CREAT, fdflags=flags)
    assert guest.fdstat(fd)[1] == flags
    guest.write(fd, b"x")
    guest.ok("fd_fdstat_set_flags", fd, flags ^ FdFlag.APPEND)
    assert (folder / "new").read_bytes() == b"x"


def test_set_size(guest: Guest, folder: Path, fd: int) -> None:
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_size", fd, 4)
    assert (folder / "file").read_bytes() == b"0123"
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_size", fd, 6)
    assert (folder / "file").read_bytes() == b"0123\0\0"


def test_allocate(guest: Guest, folder: Path, fd: int) -> None:
    guest.check(Errno.SUCCESS, {}, "fd_allocate", fd, 0, 5)
    assert (folder / "file").read_bytes() == b"0123456789"
    guest.check(Errno.SUCCESS, {}, "fd_allocate", fd, 9, 3)
    assert (folder / "file").read_bytes() == b"0123456789\0\0"
    guest.check(Errno.INVAL, {}, "fd_allocate", fd, 0, 0)
    guest.check(Errno.NOSPC, {}, "fd_allocate", fd, 0, 1 << 60)
    guest.check(Errno.FBIG, {}, "fd_allocate", fd, (1 << 63) - 1, 1)


@pytest.mark.parametrize("advice", range(6))
def test_advise(guest: Guest, fd: int, advice: int) -> None:
    guest.check(Errno.SUCCESS, {}, "fd_advise", fd, 0, 10, advice)


@pytest.mark.parametrize("advice", [6, 255, 0xFFFFFFFF])
def test_unknown_advice(guest: Guest, fd: int, advice: int) -> None:
    guest.check(Errno.INVAL, {}, "fd_advise", fd, 0, 10, advice)


def test_sync(guest: Guest, fd: int) -> None:
    for descriptor in (fd, 3):
        guest.check(Errno.SUCCESS, {}, "fd_sync", descriptor)
        guest.check(Errno.SUCCESS, {}, "fd_datasync", descriptor)


def test_set_times(guest: Guest, folder: Path, fd: int) -> None:
    path = folder / "file"
    both = FstFlag.ATIM | FstFlag.MTIM
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 1_000_000_001, 2_000_000_002, both)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 3, 4, FstFlag.ATIM)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (3, 2_000_000_002)
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 5, 6, FstFlag.MTIM)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (3, 6)
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 7, 8, 0)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (3, 6)
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 9, 0, FstFlag.ATIM | FstFlag.MTIM_NOW)
    assert path.stat().st_atime_ns == 9
    assert path.stat().st_mtime_ns > 10**18
    guest.check(Errno.SUCCESS, {}, "fd_filestat_set_times", fd, 9, 9, FstFlag.ATIM_NOW | FstFlag.MTIM_NOW)
    assert path.stat().st_atime_ns > 10**18


@pytest.mark.parametrize("flags", [3, 12, 15, 16, 0x8000_0000, 7, 14])
def test_contradicting_or_unknown_times(guest: Guest, folder: Path, fd: int, flags: int) -> None:
    before = (folder / "file").stat()
    guest.check(Errno.INVAL, {}, "fd_filestat_set_times", fd, 1, 1, flags)
    guest.check(Errno.INVAL, {}, "path_filestat_set_times", 3, 0, *guest.path("file"), 1, 1, flags)
    after = (folder / "file").stat()
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)


def test_close(guest: Guest, fd: int) -> None:
    guest.check(Errno.SUCCESS, {}, "fd_close", fd)
    guest.check(Errno.BADF, {}, "fd_close", fd)
    guest.check(Errno.BADF, {}, "fd_read", fd, *guest.iovecs(1), RESULT)
    assert guest.open("file") == fd, "the lowest free number is given"


def test_closing_a_preopen_or_a_stream_takes_it_away(guest: Guest) -> None:
    for fd in (0, 3):
        guest.check(Errno.SUCCESS, {}, "fd_close", fd)
        guest.check(Errno.BADF, {}, "fd_fdstat_get", fd, RESULT)
    assert guest.try_open(".") == Errno.BADF


def test_renumber(guest: Guest, folder: Path, fd: int) -> None:
    (folder / "other").write_bytes(b"other")
    other = guest.open("other")
    guest.check(Errno.SUCCESS, {}, "fd_renumber", other, fd)
    assert guest.read(fd, 10) == b"other"
    guest.check(Errno.BADF, {}, "fd_close", other)
    guest.check(Errno.BADF, {}, "fd_renumber", other, fd)
    guest.check(Errno.BADF, {}, "fd_renumber", fd, other)
    guest.check(Errno.SUCCESS, {}, "fd_renumber", fd, fd)
    assert guest.read(fd, 10) == b""
    assert guest.open("other") == other


def test_renumber_over_and_of_a_preopen(guest: Guest, fd: int) -> None:
    guest.check(Errno.SUCCESS, {}, "fd_renumber", 3, 1)
    guest.check(Errno.BADF, {}, "fd_prestat_get", 3, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: struct.pack("<II", 0, 1)}, "fd_prestat_get", 1, RESULT)
    guest.check(Errno.SUCCESS, {}, "fd_renumber", fd, 1)
    guest.check(Errno.BADF, {}, "fd_prestat_get", 1, RESULT)
    assert guest.read(1, 10) == b"0123456789"


def test_prestat(guest: Guest) -> None:
    guest.check(Errno.SUCCESS, {RESULT: struct.pack("<II", 0, 1)}, "fd_prestat_get", 3, RESULT)
    guest.check(Errno.SUCCESS, {RESULT: b"/"}, "fd_prestat_dir_name", 3, RESULT, 1)
    guest.check(Errno.SUCCESS, {RESULT: b"/"}, "fd_prestat_dir_name", 3, RESULT, 5)
    guest.check(Errno.NAMETOOLONG, {}, "fd_prestat_dir_name", 3, RESULT, 0)


def test_prestat_of_what_is_no_preopen(guest: Guest, folder: Path, fd: int) -> None:
    (folder / "sub").mkdir()
    for descriptor in (0, 1, 2, fd, guest.open_directory("sub"), 99, 0xFFFFFFFF):
        guest.check(Errno.BADF, {}, "fd_prestat_get", descriptor, RESULT)
        guest.check(Errno.BADF, {}, "fd_prestat_dir_name", descriptor, RESULT, 9)


def test_directories_answer_isdir(guest: Guest) -> None:
    guest.check(Errno.ISDIR, {}, "fd_read", 3, *guest.iovecs(1), RESULT)
    guest.check(Errno.ISDIR, {}, "fd_write", 3, *guest.iovecs(b"a"), RESULT)
    guest.check(Errno.ISDIR, {}, "fd_pread", 3, *guest.iovecs(1), 0, RESULT)
    guest.check(Errno.ISDIR, {}, "fd_pwrite", 3, *guest.iovecs(b"a"), 0, RESULT)
    guest.check(Errno.ISDIR, {}, "fd_seek", 3, 1, SET, RESULT)
    guest.check(Errno.ISDIR, {}, "fd_tell", 3, RESULT)
    guest.check(Errno.ISDIR, {}, "fd_allocate", 3, 0, 1)
    guest.check(Errno.ISDIR, {}, "fd_filestat_set_size", 3, 0)
    guest.check(Errno.ISDIR, {}, "fd_advise", 3, 0, 1, 0)


def test_files_answer_notdir_and_notsock(guest: Guest, fd: int) -> None:
    guest.check(Errno.NOTDIR, {}, "fd_readdir", fd, DATA, 100, 0, RESULT)
    guest.check(Errno.NOTDIR, {}, "path_unlink_file", fd, *guest.path("x"))
    assert guest.try_open("x", fd=fd) == Errno.NOTDIR
    guest.check(Errno.NOTSOCK, {}, "sock_shutdown", fd, 1)
    guest.check(Errno.NOTSOCK, {}, "sock_accept", fd, 0, RESULT)


def test_rights_implied_by_mode(guest: Guest, folder: Path) -> None:
    (folder / "file").touch()
    for rights, missing in (
        (Right.FD_READ, Right.FD_WRITE),
        (Right.FD_WRITE, Right.FD_READ),
        (FILE_RIGHTS & ~Right.FD_WRITE, Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE | Right.FD_WRITE),
    ):
        assert not guest.fdstat(guest.open("file", rights=rights))[2] & missing
    only_size = guest.open("file", rights=Right.FD_FILESTAT_SET_SIZE)
    guest.ok("fd_filestat_set_size", only_size, 7)
    assert (folder / "file").stat().st_size == 7


def test_fifo_and_device(guest: Guest, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    fd = guest.open("fifo", rights=Right.FD_READ, fdflags=FdFlag.NONBLOCK)
    assert guest.fdstat(fd)[0] == FileType.UNKNOWN
    with (folder / "fifo").open("wb", buffering=0) as writer:
        guest.check(Errno.AGAIN, {}, "fd_read", fd, *guest.iovecs(1), RESULT)
        writer.write(b"abc")
        assert guest.read(fd, 5) == b"abc"
    assert guest.read(fd, 5) == b""
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null = guest.open("null")
        assert guest.fdstat(null)[0] == FileType.CHARACTER_DEVICE
        assert guest.fdstat(null)[2] & Right.FD_SEEK, "not a terminal"
        assert guest.write(null, b"gone") == 4


def test_a_closed_pipe_is_an_error_not_a_signal(guest: Guest, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fd = guest.open("fifo", rights=Right.FD_WRITE)
    os.close(reader)
    guest.check(Errno.PIPE, {}, "fd_write", fd, *guest.iovecs(b"a"), RESULT)


def test_a_partial_write_is_reported(guest: Guest, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fd = guest.open("fifo", rights=Right.FD_WRITE, fdflags=FdFlag.NONBLOCK)
    written = []
    guest.memory.write(0x2400, struct.pack("<II", 0x2400, 50_000))
    while guest.call("fd_write", fd, 0x2400, 1, RESULT) == Errno.SUCCESS:
        written.append(guest.u32())
    assert written[0] == 50_000
    assert 0 < written[1] < 50_000, "a pipe holds 65536 bytes"
    assert sum(written) == len(os.read(reader, 100_000))
    os.close(reader)
