"""The table of a guest's file descriptors: the core's, and the Descriptors that Python knows of it."""

from __future__ import annotations

from contextlib import suppress

from lucet.runtime import Wasi, WasiKind
from lucet.wasi.dirs import Directory, HostDirectory
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Descriptor, HostFile
from lucet.wasi.tables import DIRECTORY_RIGHTS, FILE_RIGHTS, Errno, FileType


class FdTable:
    """Numbers to Descriptors. The lowest free number is given, as programs written for Unix expect.

    What is open, with its rights and flags, stands in `core` alone. The core opens and closes files without Python;
    one gets a Descriptor when Python first has to do with it, and from then on only Python closes it.
    """

    def __init__(self, limit: int) -> None:
        self.core = Wasi(limit)
        self._known: dict[int, Descriptor] = {}

    def get(self, fd: int, rights: int = 0) -> Descriptor:
        """What an open descriptor stands for, if it has all the rights."""
        entry = self._known.get(fd)
        if entry is None:
            entry = self._adopt(fd)
        if rights & ~entry.rights:
            raise WasiError(_refusal(entry, rights))
        return entry

    def is_at(self, fd: int, entry: Descriptor) -> bool:
        """Whether a Descriptor is what is open there."""
        return self._known.get(fd) is entry

    def _adopt(self, fd: int) -> Descriptor:
        """The Descriptor of what the core has opened."""
        kind = self.core.kind(fd)
        if kind < 0:
            raise WasiError(Errno.BADF)
        entry = HostDirectory.of_core() if kind == WasiKind.DIRECTORY else HostFile.of_core()
        if not self.core.adopt(fd, entry):
            raise WasiError(Errno.BADF)
        self._known[fd] = entry
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
        if self.core.is_full():
            raise WasiError(Errno.MFILE)

    def add(self, entry: Descriptor) -> int:
        try:
            fd = self.core.add(entry)
        except OSError:
            raise WasiError(Errno.MFILE) from None
        self._known[fd] = entry
        return fd

    def close(self, fd: int) -> None:
        entry = self.get(fd)
        self._known.pop(fd, None)
        try:
            entry.close()
        finally:
            self.core.close(fd)

    def renumber(self, fd: int, to: int) -> None:
        """Close `to` and give its number to `fd`."""
        entry, old = self.get(fd), self.get(to)
        if fd != to:
            self._known[to] = entry
            self._known.pop(fd, None)
            try:
                old.close()
            finally:
                self.core.renumber(fd, to)

    def close_all(self) -> None:
        while self._known:
            try:
                _, entry = self._known.popitem()
            except KeyError:  # by another thread
                break
            with suppress(OSError):  # a terminal that is gone; the others are to be closed all the same
                entry.close()
        self.core.close_all()


def _refusal(entry: Descriptor, rights: int) -> Errno:
    """ISDIR for what no directory can do, as the host says; NOTCAPABLE for what this descriptor may not."""
    if entry.filetype == FileType.DIRECTORY and rights & FILE_RIGHTS & ~DIRECTORY_RIGHTS:
        return Errno.ISDIR
    return Errno.NOTCAPABLE
