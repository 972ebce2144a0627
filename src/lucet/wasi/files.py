"""What a guest's file descriptor stands for: `Descriptor`, and the host's files.

A Descriptor knows its rights but does not check them: the calls do. Its methods raise WasiError or OSError; buffers are
views of guest memory that must not be kept.
"""

from __future__ import annotations

import fcntl
import os
import stat
import termios
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, Self

from lucet.runtime import WasiFile, WasiKind, wait
from lucet.wasi.errors import WasiError
from lucet.wasi.tables import (
    ADVICES,
    FILE_RIGHTS,
    MAX_OFFSET,
    TERMINAL_RIGHTS,
    WRITING_RIGHTS,
    Abi,
    Errno,
    FdFlag,
    FileType,
    FstFlag,
    Right,
)

Buffers = Sequence[memoryview]

HOST_FLAGS: Final = {
    FdFlag.APPEND: os.O_APPEND,
    FdFlag.DSYNC: os.O_DSYNC,
    FdFlag.NONBLOCK: os.O_NONBLOCK,
    FdFlag.RSYNC: os.O_RSYNC,
    FdFlag.SYNC: os.O_SYNC,
}
SETTABLE_FLAGS: Final = FdFlag.APPEND | FdFlag.NONBLOCK  # what Linux lets F_SETFL change
_FILE_TYPES: Final = {
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFREG: FileType.REGULAR_FILE,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
}
_INT: Final = Struct("i")


class FileStat(NamedTuple):
    """`filestat`, in its order."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


def file_type(mode: int) -> FileType:
    """The filetype of a host file's mode; preview 1 has no word for a pipe."""
    return _FILE_TYPES.get(stat.S_IFMT(mode), FileType.UNKNOWN)


def file_stat(result: os.stat_result) -> FileStat:
    # Times before 1970 cannot be told to the guest.
    return FileStat(
        result.st_dev,
        result.st_ino,
        file_type(result.st_mode),
        result.st_nlink,
        result.st_size,
        max(result.st_atime_ns, 0),
        max(result.st_mtime_ns, 0),
        max(result.st_ctime_ns, 0),
    )


def pack_file_stat(abi: Abi, result: FileStat) -> bytes:
    return abi.filestat.pack(*result._replace(nlink=min(result.nlink, abi.max_links)))


def host_flags(fdflags: int) -> int:
    """The open(2) flags of `fdflags`."""
    flags = 0
    for bit, flag in HOST_FLAGS.items():
        if fdflags & bit:
            flags |= flag
    return flags


def guest_flags(flags: int) -> int:
    """`fdflags` of what F_GETFL says."""
    result = 0
    for bit, flag in HOST_FLAGS.items():
        if bit != FdFlag.RSYNC and flags & flag == flag:  # RSYNC is SYNC on Linux
            result |= bit
    return result & ~FdFlag.DSYNC if result & FdFlag.SYNC else result


def host_offset(offset: int) -> int:
    """A u64 as the host's signed off_t."""
    if offset > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    return offset


class NewTimes(NamedTuple):
    """What a set_times call asks for: nanoseconds, or None to leave a time as it is. is_now: both are the present."""

    atim: int | None
    mtim: int | None
    is_now: bool

    def resolve(self, old: os.stat_result) -> tuple[int, int]:
        """The two times, the old one where it is to stay: os.utime cannot leave one out."""
        return (
            old.st_atime_ns if self.atim is None else self.atim,
            old.st_mtime_ns if self.mtim is None else self.mtim,
        )


def new_times(atim: int, mtim: int, flags: int, now: int) -> NewTimes:
    """Read `fstflags`; now is the present time of the guest's clock."""
    if flags & ~FstFlag.ALL:
        raise WasiError(Errno.INVAL)
    times: list[int | None] = []
    for value, set_bit, now_bit in (
        (atim, FstFlag.ATIM, FstFlag.ATIM_NOW),
        (mtim, FstFlag.MTIM, FstFlag.MTIM_NOW),
    ):
        if flags & set_bit and flags & now_bit:
            raise WasiError(Errno.INVAL)
        times.append(now if flags & now_bit else host_offset(value) if flags & set_bit else None)
    return NewTimes(times[0], times[1], is_now=flags == FstFlag.ATIM_NOW | FstFlag.MTIM_NOW)


class Descriptor(WasiFile):
    """An entry of the descriptor table. What a kind of file cannot do answers as the host would.

    filetype, rights, inheriting, flags and fd are the core's, which itself reads and writes whatever is not of the kind
    OTHER: the methods here are for the rest.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        filetype: FileType,
        rights: int,
        inheriting: int = 0,
        flags: int = 0,
        kind: int = WasiKind.OTHER,
        fd: int = -1,
    ) -> None:
        super().__init__(kind, fd, filetype, rights, inheriting, flags)

    @property
    def preopen(self) -> bytes | None:
        """The guest's name of a preopened directory."""
        return None

    def read(self, buffers: Buffers) -> int:
        raise WasiError(Errno.BADF)

    def write(self, buffers: Buffers) -> int:
        raise WasiError(Errno.BADF)

    def pread(self, buffers: Buffers, offset: int) -> int:
        raise WasiError(Errno.SPIPE)

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        raise WasiError(Errno.SPIPE)

    def seek(self, offset: int, whence: int) -> int:
        raise WasiError(Errno.SPIPE)

    def advise(self, offset: int, length: int, advice: int) -> None:
        raise WasiError(Errno.SPIPE)

    def allocate(self, offset: int, length: int) -> None:
        raise WasiError(Errno.NODEV)

    def set_size(self, size: int) -> None:
        raise WasiError(Errno.INVAL)

    def set_times(self, times: NewTimes) -> None:
        raise WasiError(Errno.NOTSUP)

    def set_flags(self, flags: int) -> None:
        """Only NONBLOCK can be set on what is not a file."""
        if (flags ^ self.flags) & ~FdFlag.NONBLOCK:
            raise WasiError(Errno.NOTSUP)
        self.flags = flags

    def accept(self, flags: int) -> Descriptor:
        raise WasiError(Errno.NOTSOCK)

    def receive(self, buffers: Buffers, flags: int) -> tuple[int, int]:
        """(number of bytes, `roflags`)"""
        raise WasiError(Errno.NOTSOCK)

    def send(self, buffers: Buffers) -> int:
        raise WasiError(Errno.NOTSOCK)

    def shutdown(self, how: int) -> None:
        raise WasiError(Errno.NOTSOCK)

    def sync(self) -> None:
        """Nothing to do for what has no disk."""

    def datasync(self) -> None:
        self.sync()

    def stat(self) -> FileStat:
        return FileStat(0, 0, self.filetype, 1, 0, 0, 0, 0)

    def host_fd(self) -> int | None:
        """What to poll; None is always ready."""
        return None

    def available(self) -> int:
        """How many bytes a read would find, when it is ready."""
        return 0

    def close(self) -> None:
        """Give up what it holds besides `fd`, which the core closes when no descriptor and no call needs it."""


class HostFile(Descriptor):
    """An open file of the host, which it owns: a regular file, a device, a FIFO."""

    __slots__ = ()

    def __init__(
        self,
        fd: int,
        *,
        filetype: FileType,
        rights: int,
        inheriting: int = 0,
        flags: int = 0,
        kind: int = WasiKind.FILE,
    ) -> None:
        super().__init__(filetype=filetype, rights=rights, inheriting=inheriting, flags=flags, kind=kind, fd=fd)

    @classmethod
    def of_core(cls) -> Self:
        """For Wasi.adopt."""
        return cls.__new__(cls)

    def read(self, buffers: Buffers) -> int:
        return os.readv(self.fd, buffers)

    def write(self, buffers: Buffers) -> int:
        return os.writev(self.fd, buffers)

    def pread(self, buffers: Buffers, offset: int) -> int:
        return os.preadv(self.fd, buffers, host_offset(offset))

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        return os.pwritev(self.fd, buffers, host_offset(offset))

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self.fd, offset, whence)

    def advise(self, offset: int, length: int, advice: int) -> None:
        os.posix_fadvise(
            self.fd, host_offset(offset), host_offset(length), getattr(os, "POSIX_FADV_" + ADVICES[advice])
        )

    def allocate(self, offset: int, length: int) -> None:
        if host_offset(offset) + host_offset(length) > MAX_OFFSET:
            raise WasiError(Errno.FBIG)
        # Where the file system cannot allocate, the C library writes to every block: not for more than there is.
        space = os.fstatvfs(self.fd)
        is_too_much = space.f_blocks and length > space.f_bavail * space.f_frsize
        if is_too_much and offset + length > os.fstat(self.fd).st_size:
            raise WasiError(Errno.NOSPC)
        os.posix_fallocate(self.fd, offset, length)

    def set_size(self, size: int) -> None:
        os.ftruncate(self.fd, host_offset(size))

    def set_times(self, times: NewTimes) -> None:
        if times.is_now:
            os.utime(self.fd)
        else:
            os.utime(self.fd, ns=times.resolve(os.fstat(self.fd)))

    def set_flags(self, flags: int) -> None:
        if (flags ^ self.flags) & ~SETTABLE_FLAGS:
            raise WasiError(Errno.NOTSUP)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, host_flags(flags))
        self.flags = flags

    def sync(self) -> None:
        os.fsync(self.fd)

    def datasync(self) -> None:
        os.fdatasync(self.fd)

    def stat(self) -> FileStat:
        return file_stat(os.fstat(self.fd))

    def host_fd(self) -> int | None:
        return None if self.filetype in {FileType.REGULAR_FILE, FileType.DIRECTORY} else self.fd

    def available(self) -> int:
        if self.filetype == FileType.REGULAR_FILE:
            return max(os.fstat(self.fd).st_size - os.lseek(self.fd, 0, os.SEEK_CUR), 0)
        return pending(self.fd)


def pending(fd: int) -> int:
    """The bytes that wait in a pipe, socket or terminal."""
    try:
        return int(_INT.unpack(fcntl.ioctl(fd, termios.FIONREAD, bytes(_INT.size)))[0])
    except OSError:
        return 0


def poll_one(fd: int, event: int, *, is_patient: bool) -> bool:
    """Whether the event of one descriptor has come; is_patient: wait for it."""
    return any(wait([(fd, event)], None if is_patient else 0))


def possible_rights(fd: int, mode: int, *, readable: bool, writable: bool) -> int:
    """Those that an open descriptor that is not a directory can have."""
    possible = TERMINAL_RIGHTS if stat.S_ISCHR(mode) and os.isatty(fd) else FILE_RIGHTS
    if not readable:
        possible &= ~Right.FD_READ
    if not writable:
        possible &= ~WRITING_RIGHTS
    return possible
