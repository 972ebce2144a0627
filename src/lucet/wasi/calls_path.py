"""The path_ calls."""

from __future__ import annotations

from typing import Final

from lucet.wasi.context import WasiContext
from lucet.wasi.dirs import Directory
from lucet.wasi.errors import WasiError
from lucet.wasi.fdtable import FdTable
from lucet.wasi.files import new_times, pack_file_stat
from lucet.wasi.memory import Memory, is_utf8, read_path
from lucet.wasi.tables import Abi, ClockId, Errno, FdFlag, LookupFlag, OpenFlag, Right

ACCESS_RIGHTS: Final = Right.FD_READ | Right.FD_WRITE
CHANGING_RIGHTS: Final = Right.PATH_FILESTAT_SET_SIZE | Right.PATH_FILESTAT_SET_TIMES
"""What can be done to a file through its directory, without opening it."""


class PathCalls:
    """What acts on a path beneath an open directory."""

    context: WasiContext
    fds: FdTable
    abi: Abi

    def path_open(
        self,
        memory: Memory,
        fd: int,
        dirflags: int,
        path: int,
        path_len: int,
        oflags: int,
        fs_rights_base: int,
        fs_rights_inheriting: int,
        fdflags: int,
        opened_fd: int,
    ) -> int:
        directory = self.fds.directory(fd, _rights_to_open(oflags))
        name = read_path(memory, path, path_len)
        follow = _follow(dirflags)
        if oflags & ~OpenFlag.ALL or fdflags & ~FdFlag.ALL:
            raise WasiError(Errno.INVAL)
        if oflags & OpenFlag.CREAT and oflags & OpenFlag.DIRECTORY:
            raise WasiError(Errno.INVAL)  # older kernels would create a file and then say that it is no directory
        # Programs ask for all that they might ever use (Rust's and Go's libraries do), so what they cannot have is left
        # out. But a file opened for reading or for writing that could not be is an error now, not at the first use.
        if fs_rights_base & ACCESS_RIGHTS & ~directory.inheriting or not _may_sync(directory.inheriting, fdflags):
            raise WasiError(Errno.NOTCAPABLE)
        self.fds.require_room()
        opened = directory.open(
            name,
            follow=follow,
            oflags=oflags,
            fdflags=fdflags,
            rights=fs_rights_base & directory.inheriting,
            inheriting=fs_rights_inheriting & directory.inheriting,
        )
        memory.write_u32(opened_fd, self.fds.add(opened))
        return 0

    def path_create_directory(self, memory: Memory, fd: int, path: int, path_len: int) -> int:
        self.fds.directory(fd, Right.PATH_CREATE_DIRECTORY).create_directory(read_path(memory, path, path_len))
        return 0

    def path_remove_directory(self, memory: Memory, fd: int, path: int, path_len: int) -> int:
        self.fds.directory(fd, Right.PATH_REMOVE_DIRECTORY).remove_directory(read_path(memory, path, path_len))
        return 0

    def path_unlink_file(self, memory: Memory, fd: int, path: int, path_len: int) -> int:
        self.fds.directory(fd, Right.PATH_UNLINK_FILE).unlink(read_path(memory, path, path_len))
        return 0

    def path_filestat_get(self, memory: Memory, fd: int, flags: int, path: int, path_len: int, buf: int) -> int:
        directory = self.fds.directory(fd, Right.PATH_FILESTAT_GET)
        stat = directory.stat_at(read_path(memory, path, path_len), follow=_follow(flags))
        memory.write(buf, pack_file_stat(self.abi, stat))
        return 0

    def path_filestat_set_times(
        self, memory: Memory, fd: int, flags: int, path: int, path_len: int, atim: int, mtim: int, fst_flags: int
    ) -> int:
        directory = self.fds.directory(fd, Right.PATH_FILESTAT_SET_TIMES)
        times = new_times(atim, mtim, fst_flags, self.context.clock.time(ClockId.REALTIME))
        directory.set_times_at(read_path(memory, path, path_len), times, follow=_follow(flags))
        return 0

    def path_readlink(
        self, memory: Memory, fd: int, path: int, path_len: int, buf: int, buf_len: int, bufused: int
    ) -> int:
        """The link's contents, cut off where the buffer ends."""
        target = self.fds.directory(fd, Right.PATH_READLINK).read_link(read_path(memory, path, path_len))
        if not is_utf8(target):
            raise WasiError(Errno.ILSEQ)
        memory.write(buf, target[:buf_len])
        memory.write_u32(bufused, min(len(target), buf_len))
        return 0

    def path_symlink(
        self, memory: Memory, old_path: int, old_path_len: int, fd: int, new_path: int, new_path_len: int
    ) -> int:
        directory = self.fds.directory(fd, Right.PATH_SYMLINK)
        target = read_path(memory, old_path, old_path_len)
        directory.symlink(target, read_path(memory, new_path, new_path_len))
        return 0

    def path_rename(
        self, memory: Memory, fd: int, old_path: int, old_path_len: int, new_fd: int, new_path: int, new_path_len: int
    ) -> int:
        source = self.fds.directory(fd, Right.PATH_RENAME_SOURCE)
        target = self.fds.directory(new_fd, Right.PATH_RENAME_TARGET)
        _require_no_gain(source, target)
        name = read_path(memory, old_path, old_path_len)
        source.rename(name, target, read_path(memory, new_path, new_path_len))
        return 0

    def path_link(
        self,
        memory: Memory,
        old_fd: int,
        old_flags: int,
        old_path: int,
        old_path_len: int,
        new_fd: int,
        new_path: int,
        new_path_len: int,
    ) -> int:
        source = self.fds.directory(old_fd, Right.PATH_LINK_SOURCE)
        target = self.fds.directory(new_fd, Right.PATH_LINK_TARGET)
        _require_no_gain(source, target)
        name = read_path(memory, old_path, old_path_len)
        source.link(name, target, read_path(memory, new_path, new_path_len), follow=_follow(old_flags))
        return 0


def _follow(flags: int) -> bool:
    if flags & ~LookupFlag.ALL:
        raise WasiError(Errno.INVAL)
    return bool(flags & LookupFlag.SYMLINK_FOLLOW)


def _rights_to_open(oflags: int) -> int:
    rights = Right.PATH_OPEN
    if oflags & OpenFlag.CREAT:
        rights |= Right.PATH_CREATE_FILE
    if oflags & OpenFlag.TRUNC:
        rights |= Right.PATH_FILESTAT_SET_SIZE
    return rights


def _may_sync(rights: int, fdflags: int) -> bool:
    """FD_SYNC includes opening with any of the synchronising flags, FD_DATASYNC with DSYNC."""
    if rights & Right.FD_SYNC:
        return True
    return not fdflags & (FdFlag.RSYNC | FdFlag.SYNC | (0 if rights & Right.FD_DATASYNC else FdFlag.DSYNC))


def _require_no_gain(source: Directory, target: Directory) -> None:
    """Nothing may get a name in a directory where more could be done with it than where it was."""
    if target.inheriting & ~source.inheriting or target.rights & ~source.rights & CHANGING_RIGHTS:
        raise WasiError(Errno.NOTCAPABLE)
