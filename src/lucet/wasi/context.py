"""WasiContext: everything that one guest program is given."""

from __future__ import annotations

import errno as host
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from lucet.wasi.clocks import Clock, SystemClock
from lucet.wasi.dirs import Directory, HostDirectory
from lucet.wasi.fdtable import FdTable
from lucet.wasi.files import Descriptor
from lucet.wasi.memfiles import MemoryDirectory, MemoryFiles
from lucet.wasi.paths import require_confinement
from lucet.wasi.streams import BytesInput, Discard, host_stream
from lucet.wasi.tables import ALL_RIGHTS, MAX_DESCRIPTORS, READ_ONLY_RIGHTS

if TYPE_CHECKING:
    import socket

    from lucet.runtime import HostFunction


class HasFileno(Protocol):
    def fileno(self) -> int: ...


Text = str | bytes
Source = str | os.PathLike[str] | MemoryFiles
Preopen = tuple[Source, str] | tuple[Source, str, bool]
Input = int | bytes | HasFileno | Descriptor | None
Output = int | HasFileno | Descriptor | None


class WasiContext:
    """The world of one guest program: arguments, environment, directories, streams, clocks, random numbers.

    args: its arguments, the program's own name first.
    env: its environment.
    preopens: directories, each (host path, name for the guest) or (host path, name, read only). No other is reachable.
        In place of a path of the host there may be MemoryFiles.
    stdin: None (empty), bytes, a file descriptor, or a file.
    stdout, stderr: None (discarded), a file descriptor, a file, or a Capture.
    sockets: listening or connected sockets, which get the descriptors after the preopens.
    clock, random: where time and random bytes come from, for runs that must repeat.
    max_descriptors: how many the program can have open at a time.

    Descriptors and sockets are duplicated: they stay the caller's. A context serves one instance at a time. Close it
    when the program has ended, or use it as a context manager; one that is forgotten closes what it holds.
    """

    def __init__(
        self,
        *,
        args: Sequence[Text] = (),
        env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        preopens: Iterable[Preopen] = (),
        stdin: Input = None,
        stdout: Output = None,
        stderr: Output = None,
        sockets: Iterable[socket.socket] = (),
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
        max_descriptors: int = MAX_DESCRIPTORS,
    ) -> None:
        variables = env.items() if isinstance(env, Mapping) else env
        self.args = tuple(_terminated(_utf8(arg)) for arg in args)
        self.environ = tuple(_terminated(_utf8(f"{name}={value}")) for name, value in variables)
        self.clock = SystemClock() if clock is None else clock
        self.random = random
        self.fds = FdTable(max_descriptors)
        self.fds.core.set_strings(b"".join(self.args), b"".join(self.environ))
        self.fds.core.set_random(random is os.urandom)
        if type(self.clock) is SystemClock:
            for number, start in enumerate(self.clock.starts):
                self.fds.core.set_clock(number, start)
        try:
            self.fds.add(_input(stdin))
            self.fds.add(_output(stdout))
            self.fds.add(_output(stderr))
            for preopen in preopens:
                if isinstance(preopen[0], MemoryFiles) and preopen[0].clock is None:
                    preopen[0].clock = self.clock
                self.fds.add(_directory(*preopen))
            for listener in sockets:
                self.fds.add(_socket(listener))
        except BaseException:
            self.close()
            raise

    def imports(self) -> Mapping[str, Mapping[str, HostFunction[..., int]]]:
        """The host functions by import module and name, for `region.new_instance(module, context.imports())`."""
        from lucet.wasi.calls import imports

        return imports(self)

    def close(self) -> None:
        """Close everything that the guest has open."""
        self.fds.close_all()

    def __del__(self) -> None:
        if hasattr(self, "fds"):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _utf8(text: Text) -> bytes:
    """As guests read text, whatever the host's locale; bytes that were none stay as they were."""
    return text if isinstance(text, bytes) else text.encode(errors="surrogateescape")


def _terminated(text: bytes) -> bytes:
    if 0 in text:
        raise ValueError(f"an argument or variable of the guest contains a NUL: {text!r}")
    return text + b"\0"


def _input(source: Input) -> Descriptor:
    if source is None or isinstance(source, bytes):
        return BytesInput(source or b"")
    return _stream(source, BytesInput(b""), output=False)


def _output(sink: Output) -> Descriptor:
    return Discard() if sink is None else _stream(sink, Discard(), output=True)


def _stream(stream: int | HasFileno | Descriptor, otherwise: Descriptor, *, output: bool) -> Descriptor:
    if isinstance(stream, Descriptor):
        return stream
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()  # what the host has written so far comes before what the guest writes
    try:
        return host_stream(stream if isinstance(stream, int) else stream.fileno(), output=output)
    except OSError as error:
        # Programs are started with standard streams closed. The number must not go to the next file that is opened.
        if error.errno == host.EBADF:
            return otherwise
        raise


def _directory(path: Source, name: str, is_read_only: bool = False) -> Directory:
    rights = READ_ONLY_RIGHTS if is_read_only else ALL_RIGHTS
    if isinstance(path, MemoryFiles):
        return MemoryDirectory(path, path.root, rights=rights, inheriting=rights, preopen=_utf8(name))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        require_confinement(fd)
        return HostDirectory(fd, rights=rights, inheriting=rights, preopen=_utf8(name))
    except BaseException:
        os.close(fd)
        raise


def _socket(listener: socket.socket) -> Descriptor:
    from lucet.wasi.sockets import Socket

    return Socket.lend(listener)
