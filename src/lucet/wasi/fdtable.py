"""The table of a guest's file descriptors."""

from __future__ import annotations

from contextlib import suppress
from heapq import heappop, heappush

from lucet.wasi.dirs import Directory
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Descriptor
from lucet.wasi.tables import DIRECTORY_RIGHTS, FILE_RIGHTS, Errno, FileType


class FdTable:
    """Numbers to Descriptors. The lowest free number is given, as programs written for Unix expect."""

    def __init__(self, limit: int) -> None:
        self._entries: list[Descriptor | None] = []
        self._free: list[int] = []
        self._limit = limit

    def get(self, fd: int, rights: int = 0) -> Descriptor:
        """What an open descriptor stands for, if it has all the rights."""
        try:
            entry = self._entries[fd]
        except IndexError:
            entry = None
        if entry is None:
            raise WasiError(Errno.BADF)
        if rights & ~entry.rights:
            raise WasiError(_refusal(entry, rights))
        return entry

    def directory(self, fd: int, rights: int) -> Directory:
        """A directory, if it has all the rights."""
        entry = self.get(fd)
        if not isinstance(entry, Directory):
            raise WasiError(Errno.NOTDIR)
        if rights & ~entry.rights:
            raise WasiError(Errno.NOTCAPABLE)
        return entry

    def require_room(self) -> None:
        """MFILE unless another descriptor can be added: to be asked before the host opens anything."""
        if not self._free and len(self._entries) >= self._limit:
            raise WasiError(Errno.MFILE)

    def add(self, entry: Descriptor) -> int:
        if self._free:
            fd = heappop(self._free)
            self._entries[fd] = entry
        else:
            fd = len(self._entries)
            self._entries.append(entry)
        return fd

    def close(self, fd: int) -> None:
        entry = self.get(fd)
        self._entries[fd] = None
        heappush(self._free, fd)
        entry.close()

    def renumber(self, fd: int, to: int) -> None:
        """Close `to` and give its number to `fd`."""
        entry, old = self.get(fd), self.get(to)
        if fd != to:
            self._entries[to], self._entries[fd] = entry, None
            heappush(self._free, fd)
            old.close()

    def close_all(self) -> None:
        entries = [entry for entry in self._entries if entry is not None]
        self._entries.clear()
        self._free.clear()
        for entry in entries:
            with suppress(OSError):  # a terminal that is gone; the others are to be closed all the same
                entry.close()


def _refusal(entry: Descriptor, rights: int) -> Errno:
    """ISDIR for what no directory can do, as the host says; NOTCAPABLE for what this descriptor may not."""
    if entry.filetype == FileType.DIRECTORY and rights & FILE_RIGHTS & ~DIRECTORY_RIGHTS:
        return Errno.ISDIR
    return Errno.NOTCAPABLE
