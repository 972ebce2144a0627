"""The sock_ calls on sockets that the guest was given."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from lucet.wasi import WasiContext
from lucet.wasi.tables import CONNECTION_RIGHTS, LISTENER_RIGHTS, Errno, FdFlag, FileType, Right
from tests.wasi.fake import DATA, RESULT, Guest

FLAGS = 0x2310


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def guest(pair: tuple[socket.socket, socket.socket]) -> Iterator[Guest]:
    with WasiContext(sockets=[pair[1]]) as context:
        yield Guest(context)


def test_accept(listener: socket.socket) -> None:
    with WasiContext(sockets=[listener]) as context, socket.create_connection(listener.getsockname()) as client:
        guest = Guest(context)
        assert guest.fdstat(3) == (FileType.SOCKET_STREAM, 0, LISTENER_RIGHTS, CONNECTION_RIGHTS)
        guest.check(Errno.SUCCESS, {RESULT: b"\4\0\0\0"}, "sock_accept", 3, 0, RESULT)
        assert guest.fdstat(4) == (FileType.SOCKET_STREAM, 0, CONNECTION_RIGHTS, CONNECTION_RIGHTS)
        client.sendall(b"hello")
        assert guest.read(4, 10) == b"hello"
        assert guest.write(4, b"wor", b"ld") == 5
        assert client.recv(10) == b"world"
        guest.ok("fd_close", 4)
        assert client.recv(10) == b""


def test_accept_without_blocking(listener: socket.socket) -> None:
    with WasiContext(sockets=[listener]) as context:
        guest = Guest(context)
        guest.ok("fd_fdstat_set_flags", 3, FdFlag.NONBLOCK)
        guest.check(Errno.AGAIN, {}, "sock_accept", 3, 0, RESULT)
        with socket.create_connection(listener.getsockname()):
            guest.ok("sock_accept", 3, FdFlag.NONBLOCK, RESULT)
            guest.check(Errno.AGAIN, {}, "fd_read", 4, *guest.iovecs(1), RESULT)
        guest.check(Errno.INVAL, {}, "sock_accept", 3, FdFlag.APPEND, RESULT)
    assert listener.getblocking()


def test_accept_stops_at_the_limit(listener: socket.socket) -> None:
    with WasiContext(sockets=[listener], max_descriptors=5) as context:
        guest = Guest(context)
        with socket.create_connection(listener.getsockname()) as client:
            guest.ok("sock_accept", 3, 0, RESULT)
            with socket.create_connection(listener.getsockname()):
                guest.check(Errno.MFILE, {}, "sock_accept", 3, 0, RESULT)
                guest.ok("fd_close", 4)
                guest.ok("sock_accept", 3, 0, RESULT)
            assert client.recv(1) == b""


def test_receive(guest: Guest, pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"0123456789")
    iovecs = guest.iovecs(3, 0, 2)
    changes = {DATA: b"01234", RESULT: b"\5\0\0\0", FLAGS: b"\0\0"}
    guest.check(Errno.SUCCESS, changes, "sock_recv", 3, *iovecs, 1, RESULT, FLAGS)
    changes = {DATA: b"01234", RESULT: b"\5\0\0\0", FLAGS: b"\0\0"}
    guest.check(Errno.SUCCESS, changes, "sock_recv", 3, *iovecs, 0, RESULT, FLAGS)
    changes = {DATA: b"56789", RESULT: b"\5\0\0\0", FLAGS: b"\0\0"}
    guest.check(Errno.SUCCESS, changes, "sock_recv", 3, *guest.iovecs(5), 2, RESULT, FLAGS)
    pair[0].close()
    guest.check(Errno.SUCCESS, {RESULT: b"\0\0\0\0", FLAGS: b"\0\0"}, "sock_recv", 3, *iovecs, 0, RESULT, FLAGS)


def test_a_datagram_that_does_not_fit() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, WasiContext(sockets=[theirs]) as context:
        guest = Guest(context)
        assert guest.fdstat(3)[0] == guest.filestat(3).filetype == FileType.SOCKET_DGRAM
        ours.send(b"0123456789")
        changes = {DATA: b"0123", RESULT: b"\4\0\0\0", FLAGS: b"\1\0"}
        guest.check(Errno.SUCCESS, changes, "sock_recv", 3, *guest.iovecs(4), 0, RESULT, FLAGS)


def test_send(guest: Guest, pair: tuple[socket.socket, socket.socket]) -> None:
    changes = {RESULT: b"\5\0\0\0"}
    guest.check(Errno.SUCCESS, changes, "sock_send", 3, *guest.iovecs(b"ab", b"cde"), 0, RESULT)
    assert pair[0].recv(10) == b"abcde"
    guest.check(Errno.INVAL, {}, "sock_send", 3, *guest.iovecs(b"x"), 1, RESULT)
    guest.check(Errno.INVAL, {}, "sock_recv", 3, *guest.iovecs(1), 4, RESULT, FLAGS)


def test_send_without_blocking(guest: Guest) -> None:
    guest.ok("fd_fdstat_set_flags", 3, FdFlag.NONBLOCK)
    guest.memory.write(0x2400, struct.pack("<II", 0, 0x10000))
    while (errno := guest.call("sock_send", 3, 0x2400, 1, 0, RESULT)) == Errno.SUCCESS:
        pass
    assert errno == Errno.AGAIN


def test_shutdown(guest: Guest, pair: tuple[socket.socket, socket.socket]) -> None:
    guest.check(Errno.SUCCESS, {}, "sock_shutdown", 3, 2)
    assert pair[0].recv(10) == b""
    guest.check(Errno.PIPE, {}, "sock_send", 3, *guest.iovecs(b"x"), 0, RESULT)
    pair[0].sendall(b"still")
    assert guest.read(3, 10) == b"still"
    guest.check(Errno.SUCCESS, {}, "sock_shutdown", 3, 3)
    for how in (0, 4, 7, 1 << 31):
        guest.check(Errno.INVAL, {}, "sock_shutdown", 3, how)


def test_rights(guest: Guest) -> None:
    guest.check(Errno.NOTCAPABLE, {}, "sock_accept", 3, 0, RESULT)
    guest.ok("fd_fdstat_set_rights", 3, Right.FD_FILESTAT_GET, 0)
    guest.check(Errno.NOTCAPABLE, {}, "sock_recv", 3, *guest.iovecs(1), 0, RESULT, FLAGS)
    guest.check(Errno.NOTCAPABLE, {}, "sock_send", 3, *guest.iovecs(b"x"), 0, RESULT)
    guest.check(Errno.NOTCAPABLE, {}, "sock_shutdown", 3, 1)


def test_what_is_no_socket(guest: Guest) -> None:
    guest.check(Errno.NOTSOCK, {}, "sock_shutdown", 1, 1)
    guest.check(Errno.NOTSOCK, {}, "sock_recv", 0, *guest.iovecs(1), 0, RESULT, FLAGS)
    guest.check(Errno.BADF, {}, "sock_shutdown", 9, 1)
    guest.check(Errno.NOTCAPABLE, {}, "fd_seek", 3, 1, 0, RESULT)


def test_sockets_come_after_preopens_and_are_polled(pair: tuple[socket.socket, socket.socket]) -> None:
    with WasiContext(preopens=[("/", "/")], sockets=[pair[1]]) as context:
        guest = Guest(context)
        assert guest.fdstat(3)[0] == FileType.DIRECTORY
        assert guest.fdstat(4)[0] == FileType.SOCKET_STREAM
        pair[0].sendall(b"abc")
        guest.memory.write(0x3000, struct.pack("<QBxxxxxxxI", 7, 1, 4).ljust(48, b"\0"))
        event = struct.pack("<QHBxxxxxQHxxxxxx", 7, 0, 1, 3, 0)
        guest.check(Errno.SUCCESS, {0x5000: event, RESULT: b"\1\0\0\0"}, "poll_oneoff", 0x3000, 0x5000, 1, RESULT)


def test_the_embedder_s_socket_stays_its_own(listener: socket.socket) -> None:
    listener.settimeout(3)
    before = os.listdir("/proc/self/fd")
    with WasiContext(sockets=[listener]) as context:
        Guest(context).ok("fd_close", 3)
    assert os.listdir("/proc/self/fd") == before
    assert listener.gettimeout() == 3
    with socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
