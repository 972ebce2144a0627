"""The fd_ calls."""

from __future__ import annotations

from typing import Final

from lucet.wasi.context import WasiContext
from lucet.wasi.errors import WasiError
from lucet.wasi.fdtable import FdTable
from lucet.wasi.files import new_times, pack_file_stat
from lucet.wasi.memory import Memory, gather, release
from lucet.wasi.tables import (
    ADVICES,
    DIRENT,
    FDSTAT,
    MAX_OFFSET,
    PRESTAT,
    SEEKING_RIGHTS,
    Abi,
    ClockId,
    Errno,
    FdFlag,
    Right,
)

READ_AT: Final = Right.FD_READ | Right.FD_SEEK
WRITE_AT: Final = Right.FD_WRITE | Right.FD_SEEK
PREOPEN_DIRECTORY: Final = 0
WHENCE_CURRENT: Final = 1  # the host's


class FdCalls:
    """What acts on an open descriptor."""

    context: WasiContext
    fds: FdTable
    abi: Abi

    def fd_read(self, memory: Memory, fd: int, iovs: int, iovs_len: int, nread: int) -> int:
        file = self.fds.get(fd, Right.FD_READ)
        views = gather(memory, iovs, iovs_len, writable=True)
        try:
            count = file.read(views)
        finally:
            release(views)
        memory.write_u32(nread, count)
        return 0

    def fd_write(self, memory: Memory, fd: int, iovs: int, iovs_len: int, nwritten: int) -> int:
        file = self.fds.get(fd, Right.FD_WRITE)
        views = gather(memory, iovs, iovs_len, writable=False)
        try:
            count = file.write(views)
        finally:
            release(views)
        memory.write_u32(nwritten, count)
        return 0

    def fd_pread(self, memory: Memory, fd: int, iovs: int, iovs_len: int, offset: int, nread: int) -> int:
        file = self.fds.get(fd, READ_AT)
        views = gather(memory, iovs, iovs_len, writable=True)
        try:
            count = file.pread(views, offset)
        finally:
            release(views)
        memory.write_u32(nread, count)
        return 0

    def fd_pwrite(self, memory: Memory, fd: int, iovs: int, iovs_len: int, offset: int, nwritten: int) -> int:
        file = self.fds.get(fd, WRITE_AT)
        views = gather(memory, iovs, iovs_len, writable=False)
        try:
            count = file.pwrite(views, offset)
        finally:
            release(views)
        memory.write_u32(nwritten, count)
        return 0

    def fd_seek(self, memory: Memory, fd: int, offset: int, whence: int, newoffset: int) -> int:
        if whence >= len(self.abi.whence):
            raise WasiError(Errno.INVAL)
        host_whence = self.abi.whence[whence]
        if offset > MAX_OFFSET:
            offset -= 1 << 64  # the one parameter that is signed
        if offset == 0 and host_whence == WHENCE_CURRENT:
            return self.fd_tell(memory, fd, newoffset)
        memory.write_u64(newoffset, self.fds.get(fd, Right.FD_SEEK).seek(offset, host_whence))
        return 0

    def fd_tell(self, memory: Memory, fd: int, offset: int) -> int:
        # FD_SEEK implies FD_TELL.
        has_seek = self.fds.get(fd).rights & SEEKING_RIGHTS
        file = self.fds.get(fd, 0 if has_seek else Right.FD_TELL)
        memory.write_u64(offset, file.seek(0, WHENCE_CURRENT))
        return 0

    def fd_close(self, _memory: Memory, fd: int) -> int:
        self.fds.close(fd)
        return 0

    def fd_renumber(self, _memory: Memory, fd: int, to: int) -> int:
        self.fds.renumber(fd, to)
        return 0

    def fd_sync(self, _memory: Memory, fd: int) -> int:
        self.fds.get(fd, Right.FD_SYNC).sync()
        return 0

    def fd_datasync(self, _memory: Memory, fd: int) -> int:
        self.fds.get(fd, Right.FD_DATASYNC).datasync()
        return 0

    def fd_advise(self, _memory: Memory, fd: int, offset: int, length: int, advice: int) -> int:
        file = self.fds.get(fd, Right.FD_ADVISE)
        if advice >= len(ADVICES):
            raise WasiError(Errno.INVAL)
        file.advise(offset, length, advice)
        return 0

    def fd_allocate(self, _memory: Memory, fd: int, offset: int, length: int) -> int:
        self.fds.get(fd, Right.FD_ALLOCATE).allocate(offset, length)
        return 0

    def fd_fdstat_get(self, memory: Memory, fd: int, stat: int) -> int:
        file = self.fds.get(fd)
        memory.write(stat, FDSTAT.pack(file.filetype, file.flags, file.rights, file.inheriting))
        return 0

    def fd_fdstat_set_flags(self, _memory: Memory, fd: int, flags: int) -> int:
        file = self.fds.get(fd, Right.FD_FDSTAT_SET_FLAGS)
        if flags & ~FdFlag.ALL:
            raise WasiError(Errno.INVAL)
        file.set_flags(flags)
        return 0

    def fd_fdstat_set_rights(self, _memory: Memory, fd: int, base: int, inheriting: int) -> int:
        """Rights can be given up, never gained."""
        file = self.fds.get(fd)
        if base & ~file.rights or inheriting & ~file.inheriting:
            raise WasiError(Errno.NOTCAPABLE)
        file.rights, file.inheriting = base, inheriting
        return 0

    def fd_filestat_get(self, memory: Memory, fd: int, buf: int) -> int:
        memory.write(buf, pack_file_stat(self.abi, self.fds.get(fd, Right.FD_FILESTAT_GET).stat()))
        return 0

    def fd_filestat_set_size(self, _memory: Memory, fd: int, size: int) -> int:
        self.fds.get(fd, Right.FD_FILESTAT_SET_SIZE).set_size(size)
        return 0

    def fd_filestat_set_times(self, _memory: Memory, fd: int, atim: int, mtim: int, fst_flags: int) -> int:
        file = self.fds.get(fd, Right.FD_FILESTAT_SET_TIMES)
        file.set_times(new_times(atim, mtim, fst_flags, self.context.clock.time(ClockId.REALTIME)))
        return 0

    def fd_prestat_get(self, memory: Memory, fd: int, buf: int) -> int:
        memory.write(buf, PRESTAT.pack(PREOPEN_DIRECTORY, len(self._preopen(fd))))
        return 0

    def fd_prestat_dir_name(self, memory: Memory, fd: int, path: int, path_len: int) -> int:
        name = self._preopen(fd)
        if path_len < len(name):
            raise WasiError(Errno.NAMETOOLONG)
        memory.write(path, name)
        return 0

    def _preopen(self, fd: int) -> bytes:
        name = self.fds.get(fd).preopen
        if name is None:
            raise WasiError(Errno.BADF)  # how wasi-libc, which counts up from 3, knows where the preopens end
        return name

    def fd_readdir(self, memory: Memory, fd: int, buf: int, buf_len: int, cookie: int, bufused: int) -> int:
        """Fill the buffer with entries, the last one cut off where it does not fit: less than all means the end."""
        directory = self.fds.directory(fd, Right.FD_READDIR)
        used = 0
        with memory.view(buf, buf_len, True) as view:
            for entry in directory.entries(cookie):
                row = DIRENT.pack(entry.cookie, entry.ino, len(entry.name), entry.filetype) + entry.name
                row = row[: buf_len - used]
                view[used : used + len(row)] = row
                used += len(row)
                if used == buf_len:
                    break
        memory.write_u32(bufused, used)
        return 0
