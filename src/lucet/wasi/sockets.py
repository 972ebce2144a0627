"""Sockets: preview 1 cannot make any, but accepts on those it is given."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Final, TypeVar

from lucet.wasi.errors import WasiError
from lucet.wasi.files import Buffers, Descriptor, FileStat, file_stat, pending, poll_one
from lucet.wasi.tables import (
    CONNECTION_RIGHTS,
    LISTENER_RIGHTS,
    Errno,
    FdFlag,
    FileType,
    RecvFlag,
    RecvResult,
    ShutdownFlag,
)

T = TypeVar("T")

SHUTDOWNS: Final = {
    ShutdownFlag.RD: socket.SHUT_RD,
    ShutdownFlag.WR: socket.SHUT_WR,
    ShutdownFlag.ALL: socket.SHUT_RDWR,
}


class Socket(Descriptor):
    """A socket of the host, owned."""

    __slots__ = ("_socket",)

    def __init__(self, owned: socket.socket, *, rights: int, flags: int = 0) -> None:
        kind = FileType.SOCKET_DGRAM if owned.type == socket.SOCK_DGRAM else FileType.SOCKET_STREAM
        super().__init__(filetype=kind, rights=rights, inheriting=CONNECTION_RIGHTS, flags=flags)
        self._socket = owned

    @classmethod
    def lend(cls, lent: socket.socket) -> Socket:
        """A duplicate of the embedder's socket, with the rights that fit its state."""
        is_listener = bool(lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        # Not lent.dup(), which would copy its timeout, and with it make the descriptor that both share non-blocking.
        duplicate = socket.socket(fileno=os.dup(lent.fileno()))
        return cls(duplicate, rights=LISTENER_RIGHTS if is_listener else CONNECTION_RIGHTS)

    def accept(self, flags: int) -> Socket:
        connection, _ = self._when_ready(select.POLLIN, self._socket.accept)
        return Socket(connection, rights=CONNECTION_RIGHTS, flags=flags)

    def receive(self, buffers: Buffers, flags: int) -> tuple[int, int]:
        wanted = socket.MSG_PEEK if flags & RecvFlag.PEEK else 0
        wanted |= socket.MSG_WAITALL if flags & RecvFlag.WAITALL else 0
        wanted |= self._nonblocking()
        count, _, answer, _ = self._when_ready(select.POLLIN, lambda: self._socket.recvmsg_into(buffers, 0, wanted))
        return count, RecvResult.DATA_TRUNCATED if answer & socket.MSG_TRUNC else 0

    def send(self, buffers: Buffers) -> int:
        # MSG_NOSIGNAL: an embedder may have given SIGPIPE back its default.
        wanted = socket.MSG_NOSIGNAL | self._nonblocking()
        return self._when_ready(select.POLLOUT, lambda: self._socket.sendmsg(buffers, (), wanted))

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(SHUTDOWNS[how])

    def read(self, buffers: Buffers) -> int:
        return self.receive(buffers, 0)[0]

    def write(self, buffers: Buffers) -> int:
        return self.send(buffers)

    def stat(self) -> FileStat:
        return file_stat(os.fstat(self._socket.fileno()))._replace(filetype=self.filetype)

    def host_fd(self) -> int | None:
        return self._socket.fileno()

    def available(self) -> int:
        return pending(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()

    def _nonblocking(self) -> int:
        return socket.MSG_DONTWAIT if self.flags & FdFlag.NONBLOCK else 0

    def _when_ready(self, event: int, operation: Callable[[], T]) -> T:
        """Wait as the guest's flags say, whatever those of the host's descriptor, which is shared."""
        is_patient = not self.flags & FdFlag.NONBLOCK
        while poll_one(self._socket.fileno(), event, is_patient=is_patient):
            try:
                return operation()
            except BlockingIOError:
                if not is_patient:
                    raise
        raise WasiError(Errno.AGAIN)
