"""The sock_ calls."""

from __future__ import annotations

from typing import Final

from lucet.wasi.context import WasiContext
from lucet.wasi.errors import WasiError
from lucet.wasi.fdtable import FdTable
from lucet.wasi.files import Descriptor
from lucet.wasi.memory import Memory, gather, release
from lucet.wasi.tables import Errno, FdFlag, FileType, RecvFlag, Right, ShutdownFlag

SOCKETS: Final = frozenset({FileType.SOCKET_DGRAM, FileType.SOCKET_STREAM})


class SockCalls:
    """What acts on a socket that the guest was given, or accepted on one."""

    context: WasiContext
    fds: FdTable

    def sock_accept(self, memory: Memory, fd: int, flags: int, accepted_fd: int) -> int:
        listener = self._socket(fd, Right.SOCK_ACCEPT)
        if flags & ~FdFlag.NONBLOCK:
            raise WasiError(Errno.INVAL)
        self.fds.require_room()
        memory.write_u32(accepted_fd, self.fds.add(listener.accept(flags)))
        return 0

    def sock_recv(
        self, memory: Memory, fd: int, ri_data: int, ri_data_len: int, ri_flags: int, ro_datalen: int, ro_flags: int
    ) -> int:
        connection = self._socket(fd, Right.FD_READ)
        if ri_flags & ~RecvFlag.ALL:
            raise WasiError(Errno.INVAL)
        views = gather(memory, ri_data, ri_data_len, writable=True)
        try:
            count, flags = connection.receive(views, ri_flags)
        finally:
            release(views)
        memory.write_u32(ro_datalen, count)
        memory.write(ro_flags, flags.to_bytes(2, "little"))
        return 0

    def sock_send(self, memory: Memory, fd: int, si_data: int, si_data_len: int, si_flags: int, so_datalen: int) -> int:
        connection = self._socket(fd, Right.FD_WRITE)
        if si_flags:
            raise WasiError(Errno.INVAL)
        views = gather(memory, si_data, si_data_len, writable=False)
        try:
            count = connection.send(views)
        finally:
            release(views)
        memory.write_u32(so_datalen, count)
        return 0

    def sock_shutdown(self, _memory: Memory, fd: int, how: int) -> int:
        connection = self._socket(fd, Right.SOCK_SHUTDOWN)
        if not how or how & ~ShutdownFlag.ALL:
            raise WasiError(Errno.INVAL)
        connection.shutdown(how)
        return 0

    def _socket(self, fd: int, rights: int) -> Descriptor:
        if self.fds.get(fd).filetype not in SOCKETS:
            raise WasiError(Errno.NOTSOCK)
        return self.fds.get(fd, rights)
