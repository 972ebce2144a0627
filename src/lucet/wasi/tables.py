"""WASI preview 1 as data: error codes, rights, flags, structures, and the table of calls with their types.

Names and order are those of the witx documents; an enumeration there is a class of numbers here. `wasi_unstable`
(preview 0) shares all of it except what PREVIEW0 states.
"""

from __future__ import annotations

import errno as host
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

MASK32: Final = (1 << 32) - 1
MASK64: Final = (1 << 64) - 1

MAX_DESCRIPTORS: Final = 1024
MAX_IOVECS: Final = 1024  # Linux's UIO_MAXIOV: more would fail in readv and writev too
MAX_PATH: Final = 4095  # Linux's PATH_MAX without the terminator
MAX_SUBSCRIPTIONS: Final = 4096
MAX_OFFSET: Final = (1 << 63) - 1  # the host's off_t
MAX_TRANSFER: Final = 0x7FFFF000  # Linux's MAX_RW_COUNT: iovecs may overlap and add up to more than the guest has


class Errno(IntEnum):
    """What every call but proc_exit returns."""

    SUCCESS = 0
    TOOBIG = 1  # "2big" in witx
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


HOST_NAMES: Final = {"TOOBIG": "E2BIG"}
FROM_HOST: Final[Mapping[int, Errno]] = {
    getattr(host, HOST_NAMES.get(error.name, "E" + error.name)): error
    for error in Errno
    if hasattr(host, HOST_NAMES.get(error.name, "E" + error.name))
}
"""The host's error numbers; those that are missing here become IO."""


class Right:
    """Bits of `rights`. Plain numbers, not an IntFlag, because every call tests them."""

    FD_DATASYNC: Final = 1 << 0
    FD_READ: Final = 1 << 1
    FD_SEEK: Final = 1 << 2
    FD_FDSTAT_SET_FLAGS: Final = 1 << 3
    FD_SYNC: Final = 1 << 4
    FD_TELL: Final = 1 << 5
    FD_WRITE: Final = 1 << 6
    FD_ADVISE: Final = 1 << 7
    FD_ALLOCATE: Final = 1 << 8
    PATH_CREATE_DIRECTORY: Final = 1 << 9
    PATH_CREATE_FILE: Final = 1 << 10
    PATH_LINK_SOURCE: Final = 1 << 11
    PATH_LINK_TARGET: Final = 1 << 12
    PATH_OPEN: Final = 1 << 13
    FD_READDIR: Final = 1 << 14
    PATH_READLINK: Final = 1 << 15
    PATH_RENAME_SOURCE: Final = 1 << 16
    PATH_RENAME_TARGET: Final = 1 << 17
    PATH_FILESTAT_GET: Final = 1 << 18
    PATH_FILESTAT_SET_SIZE: Final = 1 << 19
    PATH_FILESTAT_SET_TIMES: Final = 1 << 20
    FD_FILESTAT_GET: Final = 1 << 21
    FD_FILESTAT_SET_SIZE: Final = 1 << 22
    FD_FILESTAT_SET_TIMES: Final = 1 << 23
    PATH_SYMLINK: Final = 1 << 24
    PATH_REMOVE_DIRECTORY: Final = 1 << 25
    PATH_UNLINK_FILE: Final = 1 << 26
    POLL_FD_READWRITE: Final = 1 << 27
    SOCK_SHUTDOWN: Final = 1 << 28
    SOCK_ACCEPT: Final = 1 << 29


ALL_RIGHTS: Final = (1 << 30) - 1

WRITING_RIGHTS: Final = Right.FD_WRITE | Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE
"""What a file must be open for writing for."""
SEEKING_RIGHTS: Final = Right.FD_SEEK | Right.FD_TELL
FILE_RIGHTS: Final = (
    WRITING_RIGHTS
    | SEEKING_RIGHTS
    | Right.FD_READ
    | Right.FD_DATASYNC
    | Right.FD_SYNC
    | Right.FD_ADVISE
    | Right.FD_FDSTAT_SET_FLAGS
    | Right.FD_FILESTAT_GET
    | Right.FD_FILESTAT_SET_TIMES
    | Right.POLL_FD_READWRITE
)
"""What makes sense for a file."""
TERMINAL_RIGHTS: Final = FILE_RIGHTS & ~SEEKING_RIGHTS
"""A character device without the right to seek is what wasi-libc's isatty() takes for a terminal."""
DIRECTORY_RIGHTS: Final = (
    Right.PATH_CREATE_DIRECTORY
    | Right.PATH_CREATE_FILE
    | Right.PATH_LINK_SOURCE
    | Right.PATH_LINK_TARGET
    | Right.PATH_OPEN
    | Right.FD_READDIR
    | Right.PATH_READLINK
    | Right.PATH_RENAME_SOURCE
    | Right.PATH_RENAME_TARGET
    | Right.PATH_FILESTAT_GET
    | Right.PATH_FILESTAT_SET_SIZE
    | Right.PATH_FILESTAT_SET_TIMES
    | Right.PATH_SYMLINK
    | Right.PATH_REMOVE_DIRECTORY
    | Right.PATH_UNLINK_FILE
    | Right.FD_DATASYNC
    | Right.FD_SYNC
    | Right.FD_FDSTAT_SET_FLAGS
    | Right.FD_FILESTAT_GET
    | Right.FD_FILESTAT_SET_TIMES
    | Right.POLL_FD_READWRITE
)
"""What makes sense for a directory."""
READ_ONLY_RIGHTS: Final = (
    Right.PATH_OPEN
    | Right.FD_READDIR
    | Right.PATH_READLINK
    | Right.PATH_FILESTAT_GET
    | Right.FD_FILESTAT_GET
    | Right.FD_READ
    | Right.FD_SEEK
    | Right.FD_TELL
    | Right.FD_ADVISE
    | Right.FD_FDSTAT_SET_FLAGS
    | Right.POLL_FD_READWRITE
)
"""What a read-only preopen leaves. Not PATH_LINK_SOURCE: a second name elsewhere would make the file writable there."""
LISTENER_RIGHTS: Final = Right.SOCK_ACCEPT | Right.FD_FDSTAT_SET_FLAGS | Right.FD_FILESTAT_GET | Right.POLL_FD_READWRITE
CONNECTION_RIGHTS: Final = (
    Right.FD_READ
    | Right.FD_WRITE
    | Right.SOCK_SHUTDOWN
    | Right.FD_FDSTAT_SET_FLAGS
    | Right.FD_FILESTAT_GET
    | Right.POLL_FD_READWRITE
)


class FileType(IntEnum):
    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class FdFlag:
    APPEND: Final = 1
    DSYNC: Final = 2
    NONBLOCK: Final = 4
    RSYNC: Final = 8
    SYNC: Final = 16
    ALL: Final = 31


class OpenFlag:
    CREAT: Final = 1
    DIRECTORY: Final = 2
    EXCL: Final = 4
    TRUNC: Final = 8
    ALL: Final = 15


class LookupFlag:
    SYMLINK_FOLLOW: Final = 1
    ALL: Final = 1


class FstFlag:
    ATIM: Final = 1
    ATIM_NOW: Final = 2
    MTIM: Final = 4
    MTIM_NOW: Final = 8
    ALL: Final = 15


class ClockId(IntEnum):
    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME_ID = 2
    THREAD_CPUTIME_ID = 3


class EventType:
    CLOCK: Final = 0
    FD_READ: Final = 1
    FD_WRITE: Final = 2


class EventFlag:
    HANGUP: Final = 1


class SubscriptionFlag:
    ABSTIME: Final = 1
    ALL: Final = 1


class RecvFlag:
    PEEK: Final = 1
    WAITALL: Final = 2
    ALL: Final = 3


class RecvResult:
    DATA_TRUNCATED: Final = 1


class ShutdownFlag:
    RD: Final = 1
    WR: Final = 2
    ALL: Final = 3


ADVICES: Final = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
"""`advice` by number: what POSIX_FADV_ is followed by in the host's name."""

SIGNALS: Final = tuple(
    "NONE HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP TSTP TTIN TTOU URG"
    " XCPU XFSZ VTALRM PROF WINCH POLL PWR SYS".split()
)
"""`signal` by number: what SIG is followed by in the host's name."""
HARMLESS_SIGNALS: Final = frozenset("NONE PIPE CHLD CONT STOP TSTP TTIN TTOU URG WINCH".split())
"""Those that do not end a program; a stopped one is one that nobody could continue, so they do nothing here."""

# Structures; `x` is padding, written as zeros.
PRESTAT: Final = Struct("<B3xI")  # tag (0: a directory), name length
FDSTAT: Final = Struct("<BxH4xQQ")  # filetype, flags, rights_base, rights_inheriting
FILESTAT: Final = Struct("<QQB7xQQQQQ")  # dev, ino, filetype, nlink, size, atim, mtim, ctim
DIRENT: Final = Struct("<QQIB3x")  # next, ino, namlen, type; the name follows
IOVEC: Final = Struct("<II")  # buf, buf_len
SUBSCRIPTION: Final = Struct("<QB7xI4xQQH6x")  # userdata, tag, clock id or fd, timeout, precision, flags
EVENT: Final = Struct("<QHB5xQH6x")  # userdata, error, type, nbytes, flags


@dataclass(frozen=True, kw_only=True, slots=True)
class Param:
    """One parameter. A pointer says what it points to: an element of `size` bytes, or several."""

    name: str
    type: str
    mask: int
    is_pointer: bool = False
    size: int = 0
    length: int | None = None
    """Index of the parameter that counts the elements; None for exactly one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One function of the interface: `(i32 errno)` is the result unless it does not return."""

    name: str
    params: tuple[Param, ...]
    results: tuple[str, ...]

    @property
    def spans(self) -> tuple[tuple[int, int, int | None], ...]:
        """The guest memory that the call may touch: (pointer's index, element size, length's index or None)."""
        return tuple((i, p.size, p.length) for i, p in enumerate(self.params) if p.is_pointer and p.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Abi:
    """One version of the interface: its import module and what differs."""

    module: str
    calls: Mapping[str, Call]
    whence: tuple[int, int, int]
    """The host's SEEK_ number (0 set, 1 current, 2 end) of each `whence`."""
    filestat: Struct
    max_links: int
    subscription: Struct


SCALARS: Final = {"fd": "i32", "u32": "i32", "u64": "i64", "s64": "i64"}

# name:kind. `*T` points to one T, `*T[n]` to as many as parameter n says, `*` to something that the call itself bounds.
_CALLS: Final = """
args_get                argv:* argv_buf:*
args_sizes_get          argc:*u32 argv_buf_size:*u32
environ_get             environ:* environ_buf:*
environ_sizes_get       environ_count:*u32 environ_buf_size:*u32
clock_res_get           id:u32 resolution:*u64
clock_time_get          id:u32 precision:u64 time:*u64
fd_advise               fd:fd offset:u64 len:u64 advice:u32
fd_allocate             fd:fd offset:u64 len:u64
fd_close                fd:fd
fd_datasync             fd:fd
fd_fdstat_get           fd:fd stat:*fdstat
fd_fdstat_set_flags     fd:fd flags:u32
fd_fdstat_set_rights    fd:fd fs_rights_base:u64 fs_rights_inheriting:u64
fd_filestat_get         fd:fd buf:*filestat
fd_filestat_set_size    fd:fd size:u64
fd_filestat_set_times   fd:fd atim:u64 mtim:u64 fst_flags:u32
fd_pread                fd:fd iovs:*iovec[iovs_len] iovs_len:u32 offset:u64 nread:*u32
fd_prestat_get          fd:fd buf:*prestat
fd_prestat_dir_name     fd:fd path:*u8[path_len] path_len:u32
fd_pwrite               fd:fd iovs:*iovec[iovs_len] iovs_len:u32 offset:u64 nwritten:*u32
fd_read                 fd:fd iovs:*iovec[iovs_len] iovs_len:u32 nread:*u32
fd_readdir              fd:fd buf:*u8[buf_len] buf_len:u32 cookie:u64 bufused:*u32
fd_renumber             fd:fd to:fd
fd_seek                 fd:fd offset:s64 whence:u32 newoffset:*u64
fd_sync                 fd:fd
fd_tell                 fd:fd offset:*u64
fd_write                fd:fd iovs:*iovec[iovs_len] iovs_len:u32 nwritten:*u32
path_create_directory   fd:fd path:*u8[path_len] path_len:u32
path_filestat_get       fd:fd flags:u32 path:*u8[path_len] path_len:u32 buf:*filestat
path_filestat_set_times fd:fd flags:u32 path:*u8[path_len] path_len:u32 atim:u64 mtim:u64 fst_flags:u32
path_link               old_fd:fd old_flags:u32 old_path:*u8[old_path_len] old_path_len:u32 new_fd:fd new_path:*u8[new_path_len] new_path_len:u32
path_open               fd:fd dirflags:u32 path:*u8[path_len] path_len:u32 oflags:u32 fs_rights_base:u64 fs_rights_inheriting:u64 fdflags:u32 opened_fd:*u32
path_readlink           fd:fd path:*u8[path_len] path_len:u32 buf:*u8[buf_len] buf_len:u32 bufused:*u32
path_remove_directory   fd:fd path:*u8[path_len] path_len:u32
path_rename             fd:fd old_path:*u8[old_path_len] old_path_len:u32 new_fd:fd new_path:*u8[new_path_len] new_path_len:u32
path_symlink            old_path:*u8[old_path_len] old_path_len:u32 fd:fd new_path:*u8[new_path_len] new_path_len:u32
path_unlink_file        fd:fd path:*u8[path_len] path_len:u32
poll_oneoff             in:*subscription[nsubscriptions] out:*event[nsubscriptions] nsubscriptions:u32 nevents:*u32
proc_exit               rval:u32 noreturn
proc_raise              sig:u32
sched_yield
random_get              buf:*u8[buf_len] buf_len:u32
sock_accept             fd:fd flags:u32 accepted_fd:*u32
sock_recv               fd:fd ri_data:*iovec[ri_data_len] ri_data_len:u32 ri_flags:u32 ro_datalen:*u32 ro_flags:*u16
sock_send               fd:fd si_data:*iovec[si_data_len] si_data_len:u32 si_flags:u32 so_datalen:*u32
sock_shutdown           fd:fd how:u32
"""  # noqa: E501  a row is one call

_PARAM: Final = re.compile(r"(\w+):(?:(\w+)|\*(\w*)(?:\[(\w+)\])?)")


def _calls(text: str, sizes: Mapping[str, int]) -> Mapping[str, Call]:
    calls: dict[str, Call] = {}
    for row in text.split("\n"):
        if row:
            name, *params = row.split()
            results = () if params[-1:] == ["noreturn"] else ("i32",)
            params = [param for param in params if param != "noreturn"]
            calls[name] = Call(name=name, params=_params(params, sizes), results=results)
    return calls


def _params(words: list[str], sizes: Mapping[str, int]) -> tuple[Param, ...]:
    matches = [_PARAM.fullmatch(word) for word in words]
    parts = [match.groups() for match in matches if match]
    names = [name for name, *_ in parts]
    assert len(parts) == len(words), words
    return tuple(
        Param(
            name=name,
            type="i32" if scalar is None else SCALARS[scalar],
            mask=MASK32 if scalar is None or SCALARS[scalar] == "i32" else MASK64,
            is_pointer=scalar is None,
            size=sizes[pointee] if pointee else 0,
            length=names.index(length) if length else None,
        )
        for name, scalar, pointee, length in parts
    )


SIZES: Final[Mapping[str, int]] = {
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "iovec": IOVEC.size,
    "prestat": PRESTAT.size,
    "fdstat": FDSTAT.size,
    "filestat": FILESTAT.size,
    "subscription": SUBSCRIPTION.size,
    "event": EVENT.size,
}

PREVIEW1: Final = Abi(
    module="wasi_snapshot_preview1",
    calls=_calls(_CALLS, SIZES),
    whence=(0, 1, 2),
    filestat=FILESTAT,
    max_links=MASK64,
    subscription=SUBSCRIPTION,
)

FILESTAT0: Final = Struct("<QQB3xIQQQQ")  # the link count is a u32
SUBSCRIPTION0: Final = Struct("<QB7xQI4xQQH6x")  # a clock has an identifier before its id; an fd stands where it does

PREVIEW0: Final = Abi(
    module="wasi_unstable",
    calls={
        name: call
        for name, call in _calls(
            _CALLS, {**SIZES, "filestat": FILESTAT0.size, "subscription": SUBSCRIPTION0.size}
        ).items()
        if name != "sock_accept"
    },
    whence=(1, 2, 0),
    filestat=FILESTAT0,
    max_links=MASK32,
    subscription=SUBSCRIPTION0,
)

ABIS: Final = (PREVIEW1, PREVIEW0)
