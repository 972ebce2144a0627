"""Directories: what the calls want of one, and the host's: listing them, and what a path leads to beneath them."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from lucet.runtime import WasiKind
from lucet.wasi.errors import WasiError
from lucet.wasi.files import (
    Descriptor,
    FileStat,
    HostFile,
    NewTimes,
    file_stat,
    file_type,
    host_flags,
    possible_rights,
)
from lucet.wasi.memory import is_utf8
from lucet.wasi.paths import ENTRY_FLAGS, entry_of, open_beneath, parent_of
from lucet.wasi.tables import DIRECTORY_RIGHTS, WRITING_RIGHTS, Errno, FileType, OpenFlag, Right

if TYPE_CHECKING:
    from os import _ScandirIterator as ScandirIterator

NEW_FILE_MODE: Final = 0o666
NEW_DIRECTORY_MODE: Final = 0o777
OPEN_FLAGS: Final = os.O_CLOEXEC | os.O_NOCTTY
LISTING_WINDOW: Final = 4096
"""How many entries a listing can step back without starting again."""


class Entry(NamedTuple):
    """One row of a listing; its cookie is that of the row after it."""

    cookie: int
    ino: int
    filetype: FileType
    name: bytes


class Listing:
    """A directory's entries by cookie: the number of an entry in the host's order.

    Reads only as far as it is asked and keeps the last LISTING_WINDOW entries, so that a large directory needs neither
    memory nor a second pass. Names that are not UTF-8 are left out, since the guest could not use them.
    """

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._window: deque[Entry] = deque(maxlen=LISTING_WINDOW)
        self._scan: ScandirIterator[str] | None = None
        self._rows: Iterator[Entry] | None = None
        self._end = 0
        """The cookie after the last entry of the window."""

    def entries(self, cookie: int) -> Iterator[Entry]:
        """The entries from a cookie on; 0 sees the directory as it is now."""
        rows = self._rows
        if cookie == 0 or rows is None or cookie < self._end - len(self._window):
            rows = self._restart()
        if cookie < self._end:
            first = cookie - (self._end - len(self._window))
            yield from [self._window[i] for i in range(first, len(self._window))]
        for entry in rows:
            self._window.append(entry)
            self._end = entry.cookie
            if entry.cookie > cookie:
                yield entry

    def close(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None

    def _restart(self) -> Iterator[Entry]:
        # The scan shares its position with self._directory: closing it rewinds, so it must come before the next.
        self.close()
        self._window.clear()
        self._end = 0
        self._scan = os.scandir(self._directory)
        self._rows = self._read(self._scan)
        return self._rows

    def _read(self, scan: ScandirIterator[str]) -> Iterator[Entry]:
        ino = os.fstat(self._directory).st_ino
        yield Entry(1, ino, FileType.DIRECTORY, b".")
        yield Entry(2, ino, FileType.DIRECTORY, b"..")  # which one that is on the host is not the guest's business
        cookie = 2
        for entry in scan:
            name = os.fsencode(entry.name)
            if is_utf8(name):
                cookie += 1
                yield Entry(cookie, entry.inode(), _entry_type(entry), name)


def _entry_type(entry: os.DirEntry[str]) -> FileType:
    try:
        if entry.is_file(follow_symlinks=False):
            return FileType.REGULAR_FILE
        if entry.is_dir(follow_symlinks=False):
            return FileType.DIRECTORY
        return file_type(entry.stat(follow_symlinks=False).st_mode)
    except OSError:  # it is gone already
        return FileType.UNKNOWN


class Directory(Descriptor):
    """An open directory. Paths are bytes without NUL, resolved beneath it."""

    __slots__ = ("_preopen",)

    def __init__(
        self,
        *,
        rights: int,
        inheriting: int,
        flags: int = 0,
        preopen: bytes | None = None,
        kind: int = WasiKind.OTHER,
        fd: int = -1,
    ) -> None:
        super().__init__(
            filetype=FileType.DIRECTORY,
            rights=rights & DIRECTORY_RIGHTS,
            inheriting=inheriting,
            flags=flags,
            kind=kind,
            fd=fd,
        )
        self._preopen = preopen

    @property
    def preopen(self) -> bytes | None:
        return self._preopen

    def entries(self, cookie: int) -> Iterator[Entry]:
        """The rows of a listing after the one with that cookie."""
        raise NotImplementedError

    def open(self, path: bytes, *, follow: bool, oflags: int, fdflags: int, rights: int, inheriting: int) -> Descriptor:
        """Open a file or directory with those of the rights that its kind can have."""
        raise NotImplementedError

    def stat_at(self, path: bytes, *, follow: bool) -> FileStat:
        raise NotImplementedError

    def set_times_at(self, path: bytes, times: NewTimes, *, follow: bool) -> None:
        raise NotImplementedError

    def create_directory(self, path: bytes) -> None:
        raise NotImplementedError

    def remove_directory(self, path: bytes) -> None:
        raise NotImplementedError

    def unlink(self, path: bytes) -> None:
        raise NotImplementedError

    def symlink(self, target: bytes, path: bytes) -> None:
        """Make a symbolic link; one to an absolute path could never be followed, so there is none."""
        raise NotImplementedError

    def read_link(self, path: bytes) -> bytes:
        raise NotImplementedError

    def rename(self, path: bytes, to: Directory, new_path: bytes) -> None:
        raise NotImplementedError

    def link(self, path: bytes, to: Directory, new_path: bytes, *, follow: bool) -> None:
        raise NotImplementedError


class HostDirectory(HostFile, Directory):
    """A directory of the host."""

    __slots__ = ("_listing",)

    def __init__(self, fd: int, *, rights: int, inheriting: int, flags: int = 0, preopen: bytes | None = None) -> None:
        Directory.__init__(
            self,
            rights=rights,
            inheriting=inheriting,
            flags=flags,
            preopen=preopen,
            kind=WasiKind.DIRECTORY,
            fd=fd,
        )
        self._listing: Listing | None = None

    @classmethod
    def of_core(cls) -> Self:
        directory = super().of_core()
        directory._preopen = directory._listing = None
        return directory

    def close(self) -> None:
        if self._listing is not None:
            self._listing.close()

    def entries(self, cookie: int) -> Iterator[Entry]:
        if self._listing is None:
            self._listing = Listing(self.fd)
        return self._listing.entries(cookie)

    def open(self, path: bytes, *, follow: bool, oflags: int, fdflags: int, rights: int, inheriting: int) -> HostFile:
        """Open a file or directory with those of the rights that its kind can have."""
        readable, writable = accesses(rights)
        flags = OPEN_FLAGS | host_flags(fdflags) | (os.O_RDWR if readable else os.O_WRONLY) * writable
        flags |= 0 if follow else os.O_NOFOLLOW
        flags |= os.O_DIRECTORY if oflags & OpenFlag.DIRECTORY else 0
        flags |= os.O_TRUNC if oflags & OpenFlag.TRUNC else 0
        if oflags & OpenFlag.CREAT:
            flags |= os.O_CREAT | (os.O_EXCL if oflags & OpenFlag.EXCL else 0)
        fd = open_beneath(self.fd, path, flags, NEW_FILE_MODE if oflags & OpenFlag.CREAT else 0)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                return HostDirectory(fd, rights=rights, inheriting=inheriting, flags=fdflags)
            rights &= possible_rights(fd, mode, readable=readable, writable=writable)
            return HostFile(fd, filetype=file_type(mode), rights=rights, flags=fdflags)
        except BaseException:
            os.close(fd)
            raise

    def stat_at(self, path: bytes, *, follow: bool) -> FileStat:
        fd = open_beneath(self.fd, path, ENTRY_FLAGS | (0 if follow else os.O_NOFOLLOW))
        try:
            return file_stat(os.fstat(fd))
        finally:
            os.close(fd)

    def set_times_at(self, path: bytes, times: NewTimes, *, follow: bool) -> None:
        with entry_of(self.fd, path, follow=follow) as (parent, name):
            if times.is_now:
                os.utime(name, dir_fd=parent, follow_symlinks=False)
            else:
                old = os.stat(name, dir_fd=parent, follow_symlinks=False)
                os.utime(name, ns=times.resolve(old), dir_fd=parent, follow_symlinks=False)

    def create_directory(self, path: bytes) -> None:
        with parent_of(self.fd, path) as (parent, name):
            os.mkdir(name, NEW_DIRECTORY_MODE, dir_fd=parent)

    def remove_directory(self, path: bytes) -> None:
        with parent_of(self.fd, path) as (parent, name):
            os.rmdir(name, dir_fd=parent)

    def unlink(self, path: bytes) -> None:
        with parent_of(self.fd, path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    def symlink(self, target: bytes, path: bytes) -> None:
        """Make a symbolic link; one to an absolute path could never be followed, so there is none."""
        if target.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE)
        with parent_of(self.fd, path) as (parent, name):
            os.symlink(target, name, dir_fd=parent)

    def read_link(self, path: bytes) -> bytes:
        with entry_of(self.fd, path, follow=False) as (parent, name):
            return os.readlink(name, dir_fd=parent)

    def rename(self, path: bytes, to: Directory, new_path: bytes) -> None:
        with (
            parent_of(self.fd, path) as (parent, name),
            parent_of(_same_kind(to).fd, new_path) as (new_parent, new_name),
        ):
            os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)

    def link(self, path: bytes, to: Directory, new_path: bytes, *, follow: bool) -> None:
        with (
            entry_of(self.fd, path, follow=follow) as (parent, name),
            parent_of(_same_kind(to).fd, new_path) as (new_parent, new_name),
        ):
            os.link(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent, follow_symlinks=False)


def _same_kind(directory: Directory) -> HostDirectory:
    """Links and renames stay within the host's directories."""
    if not isinstance(directory, HostDirectory):
        raise WasiError(Errno.XDEV)
    return directory


def accesses(rights: int) -> tuple[bool, bool]:
    """Whether to open for reading and for writing: as FD_READ and FD_WRITE say, or whatever else is asked needs."""
    readable = bool(rights & Right.FD_READ)
    writable = bool(rights & (Right.FD_WRITE if readable else WRITING_RIGHTS))
    return readable or not writable, writable
