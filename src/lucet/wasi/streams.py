"""Standard streams: the host's, a terminal's, and those that live in memory."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
from typing import Final

from lucet.runtime import WasiKind
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Buffers, Descriptor, HostFile, file_type, guest_flags, poll_one, possible_rights
from lucet.wasi.tables import FILE_RIGHTS, MAX_TRANSFER, WRITING_RIGHTS, Errno, FdFlag, FileType, Right

STREAM_RIGHTS: Final = FILE_RIGHTS & ~(WRITING_RIGHTS | Right.FD_READ | Right.FD_FILESTAT_SET_TIMES)
INPUT_RIGHTS: Final = STREAM_RIGHTS | Right.FD_READ
OUTPUT_RIGHTS: Final = STREAM_RIGHTS | Right.FD_WRITE
"""A file that is lent as a stream is to be read or written: not truncated, not dated."""
MEMORY_RIGHTS: Final = Right.FD_FILESTAT_GET | Right.FD_FDSTAT_SET_FLAGS | Right.POLL_FD_READWRITE
MEMORY_SYNC_RIGHTS: Final = Right.FD_SYNC | Right.FD_DATASYNC
DEFAULT_CAPTURE: Final = 16 << 20
TERMINAL_PIECE: Final = 1 << 16


class HostStream(HostFile):
    """A descriptor that the embedder lends: shared with others, so its flags are not ours to change.

    Non-blocking reads and writes are decided by asking first whether the descriptor is ready.
    """

    __slots__ = ()

    def __init__(self, fd: int, *, filetype: FileType, rights: int, flags: int, kind: int = WasiKind.STREAM) -> None:
        super().__init__(fd, filetype=filetype, rights=rights, flags=flags, kind=kind)

    def read(self, buffers: Buffers) -> int:
        self._require_ready(select.POLLIN)
        while True:
            try:
                return os.readv(self.fd, buffers)
            except BlockingIOError:
                self._wait(select.POLLIN)

    def write(self, buffers: Buffers) -> int:
        self._require_ready(select.POLLOUT)
        while True:
            try:
                return os.writev(self.fd, buffers)
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def set_flags(self, flags: int) -> None:
        Descriptor.set_flags(self, flags)

    def _require_ready(self, event: int) -> None:
        if self.flags & FdFlag.NONBLOCK and not poll_one(self.fd, event, is_patient=False):
            raise WasiError(Errno.AGAIN)

    def _wait(self, event: int) -> None:
        """The host's descriptor does not block; the guest's does, unless it said otherwise."""
        if self.flags & FdFlag.NONBLOCK:
            raise WasiError(Errno.AGAIN)
        poll_one(self.fd, event, is_patient=True)


class TerminalOutput(HostStream):
    """Output to a terminal: text passes, but a guest may not send the terminal commands.

    Control characters other than newline, tab, carriage return and backspace are shown as their pictures (U+2400 and
    following), those of ISO 6429's second set as U+FFFD.
    """

    __slots__ = ("_decoder",)

    def __init__(self, fd: int, *, filetype: FileType, rights: int, flags: int) -> None:
        super().__init__(fd, filetype=filetype, rights=rights, flags=flags, kind=WasiKind.OTHER)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, buffers: Buffers) -> int:
        data = first_bytes(buffers, TERMINAL_PIECE)
        self._require_ready(select.POLLOUT)
        self._send(self._decoder.decode(data))
        return len(data)

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        raise WasiError(Errno.SPIPE)

    def close(self) -> None:
        self._send(self._decoder.decode(b"", final=True))

    def _send(self, text: str) -> None:
        # All of it: the guest's bytes and ours do not correspond, so a part could not be reported.
        rest = memoryview(text.translate(VISIBLE).encode())
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:
                poll_one(self.fd, select.POLLOUT, is_patient=True)


def first_bytes(buffers: Buffers, limit: int) -> bytearray:
    """At most `limit` bytes: the pieces may overlap, and be far more together than the guest's memory."""
    data = bytearray()
    for view in buffers:
        with view[: limit - len(data)] as piece:
            data += piece
    return data


VISIBLE: Final = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t\r\b"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""What stands for a control character on a terminal."""


class BytesInput(Descriptor):
    """Input from memory, read once from the start."""

    __slots__ = ("_rest",)

    def __init__(self, data: bytes) -> None:
        super().__init__(filetype=FileType.UNKNOWN, rights=MEMORY_RIGHTS | Right.FD_READ)
        self._rest = memoryview(data)

    def read(self, buffers: Buffers) -> int:
        count = 0
        for view in buffers:
            piece = self._rest[: view.nbytes]
            view[: piece.nbytes] = piece
            self._rest = self._rest[piece.nbytes :]
            count += piece.nbytes
        return count

    def available(self) -> int:
        return self._rest.nbytes


class Capture(Descriptor):
    """Output kept in memory, up to `limit` bytes; then the guest is told that there is no space left.

    Give one to WasiContext as stdout or stderr (or as both, to have them in one) and ask for `getvalue()`, at any time.
    """

    __slots__ = ("_data", "limit")

    def __init__(self, limit: int = DEFAULT_CAPTURE) -> None:
        super().__init__(filetype=FileType.UNKNOWN, rights=MEMORY_RIGHTS | MEMORY_SYNC_RIGHTS | Right.FD_WRITE)
        self._data = bytearray()
        self.limit = limit

    def getvalue(self) -> bytes:
        return bytes(self._data)

    def write(self, buffers: Buffers) -> int:
        data = first_bytes(buffers, min(self.limit - len(self._data), MAX_TRANSFER))
        if buffers and not data:
            raise WasiError(Errno.NOSPC)
        self._data += data
        return len(data)


class Discard(Descriptor):
    """Output that nobody wants."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(
            filetype=FileType.UNKNOWN,
            rights=MEMORY_RIGHTS | MEMORY_SYNC_RIGHTS | Right.FD_WRITE,
            kind=WasiKind.DISCARD,
        )

    def write(self, buffers: Buffers) -> int:
        return min(sum(view.nbytes for view in buffers), MAX_TRANSFER)


def host_stream(fd: int, *, output: bool) -> Descriptor:
    """A stream on a duplicate of the host's descriptor; the guest's closing it does not close the host's."""
    fd = os.dup(fd)
    try:
        mode = os.fstat(fd).st_mode
        rights = (OUTPUT_RIGHTS if output else INPUT_RIGHTS) & possible_rights(
            fd, mode, readable=not output, writable=output
        )
        flags = guest_flags(fcntl.fcntl(fd, fcntl.F_GETFL)) & ~FdFlag.NONBLOCK
        kind = TerminalOutput if output and os.isatty(fd) else HostStream
        return kind(fd, filetype=file_type(mode), rights=rights, flags=flags)
    except BaseException:
        os.close(fd)
        raise
