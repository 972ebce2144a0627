"""Asking the domain name system: a server of ours answers, rightly and wrongly."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lucet.terrarium import dns
from lucet.terrarium.dns import UdpResolver
from lucet.terrarium.http import OutgoingFailed

Answer = Callable[[bytes], list[bytes]]


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.ports: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked.append(data)
        self.ports.append(addr[1])
        for message in self.answer(data):
            self.transport.sendto(message, addr)


def asking(answer: Answer, use: Callable[[UdpResolver], Awaitable[Any]]) -> tuple[Any, NameServer]:
    async def run() -> tuple[Any, NameServer]:
        server = NameServer(answer)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: server, local_addr=("127.0.0.1", 0)
        )
        try:
            return await use(UdpResolver(*transport.get_extra_info("sockname"))), server
        finally:
            transport.close()

    return asyncio.run(run())


def query(name: bytes = b"there.test", kind: int = 1) -> bytes:
    coded = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" + coded + b"\0" + struct.pack(">HH", kind, 1)


def right(data: bytes, *addresses: bytes, code: int = 0) -> bytes:
    kind = {4: 1, 16: 28}
    records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind[len(one)], 1, 60, len(one)) + one for one in addresses)
    alias = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, 2) + b"\xc0\x0c"
    head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(addresses) + 1, 0, 0)
    return head + data[12:] + alias + records


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "PATIENCE", 0.2)


def test_a_raw_query() -> None:
    """The guest sees its own id; the server another one, each time."""
    answer, server = asking(lambda data: [right(data, b"\1\2\3\4")], lambda resolver: resolver.query(query()))
    assert answer == right(query(), b"\1\2\3\4")
    assert server.asked[0][2:] == query()[2:]


def test_ids_and_ports_are_random() -> None:
    async def several(resolver: UdpResolver) -> None:
        for _ in range(20):
            await resolver.query(query())

    _, server = asking(lambda data: [right(data)], several)
    assert len({data[:2] for data in server.asked}) > 15
    assert len(set(server.ports)) > 10


def test_addresses() -> None:
    four, _ = asking(
        lambda data: [right(data, b"\1\2\3\4", bytes(16), b"\5\6\7\10")],
        lambda resolver: resolver.addresses(b"there.test.", v6=False),
    )
    assert four == [b"\1\2\3\4", b"\5\6\7\10"]
    six, server = asking(
        lambda data: [right(data, b"\1\2\3\4", bytes(range(16)))],
        lambda resolver: resolver.addresses(b"there.test", v6=True),
    )
    assert six == [bytes(range(16))]
    assert server.asked[0][2:] == query(kind=28)[2:]
    none, _ = asking(lambda data: [right(data)], lambda resolver: resolver.addresses(b"there.test", v6=False))
    assert none == []


def forged(data: bytes) -> list[bytes]:
    good = right(data, b"\1\2\3\4")
    other_id = bytes([data[0] ^ 1]) + good[1:]
    other_name = good.replace(b"\5there", b"\5where")
    no_answer = data[:2] + b"\x01\x00" + good[4:]
    other_opcode = data[:2] + b"\x91\x80" + good[4:]
    two_questions = good[:4] + b"\0\2" + good[6:]
    return [b"", data[:2], data[:11], other_id, other_name, no_answer, other_opcode, two_questions]


def test_forged_answers_are_passed_over() -> None:
    found, _ = asking(
        lambda data: [*forged(data), right(data, b"\x09\x09\x09\x09")],
        lambda resolver: resolver.addresses(b"there.test", v6=False),
    )
    assert found == [b"\x09\x09\x09\x09"]


@pytest.mark.usefixtures("impatient")
def test_nobody_answers() -> None:
    async def use(resolver: UdpResolver) -> None:
        with pytest.raises(OutgoingFailed, match="does not answer"):
            await resolver.query(query())

    _, server = asking(forged, use)
    assert len(server.asked) == 3
    assert len({data[:2] for data in server.asked}) > 1


@pytest.mark.usefixtures("impatient")
def test_the_second_attempt() -> None:
    count = 0

    def answer(data: bytes) -> list[bytes]:
        nonlocal count
        count += 1
        return [right(data, b"\1\2\3\4")] if count == 2 else []

    found, _ = asking(answer, lambda resolver: resolver.addresses(b"there.test", v6=False))
    assert found == [b"\1\2\3\4"]


def test_nobody_is_there() -> None:
    async def use() -> None:
        with pytest.raises(OutgoingFailed, match="the resolver"):
            await UdpResolver("127.0.0.1", 1).query(query())

    asyncio.run(use())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        query()[:11],
        query()[:12],
        query()[:-1],
        b"\x12\x34\x81\x00" + query()[4:],  # an answer
        b"\x12\x34\x11\x00" + query()[4:],  # another opcode: an update, say
        query()[:4] + b"\0\2" + query()[6:],
        query()[:6] + b"\0\1" + query()[8:],
        query()[:10] + b"\0\2" + query()[12:],
        query()[:12] + b"\xc0\x0c" + query()[14:],
        query()[:12] + b"\x3f" * 300,
        query() + bytes(500),
    ],
    ids=range(12),
)
def test_queries_that_are_none(message: bytes) -> None:
    async def use(resolver: UdpResolver) -> None:
        with pytest.raises(OutgoingFailed):
            await resolver.query(message)

    _, server = asking(lambda data: [right(data)], use)
    assert not server.asked


@pytest.mark.parametrize("name", [b"", b".", b"a..b", b"a b", b"a\0b", b"x" * 64, b"a." * 130, b"\xc3\xa4.test", b"-"])
def test_names_that_are_none(name: bytes) -> None:
    async def use(resolver: UdpResolver) -> None:
        with pytest.raises(OutgoingFailed, match="not a host's name"):
            await resolver.addresses(name, v6=False)

    _, server = asking(lambda data: [right(data)], use)
    assert not server.asked


def test_damaged_answers() -> None:
    """Cut off anywhere: an error, or fewer addresses."""

    async def use(resolver: UdpResolver) -> int:
        failed = 0
        for _ in range(50):
            try:
                found = await resolver.addresses(b"there.test", v6=False)
                assert found in ([], [b"\1\2\3\4"])
            except OutgoingFailed as error:
                assert "damaged" in str(error)
                failed += 1
        return failed

    size = len(right(query(), b"\1\2\3\4"))
    cuts = iter([*range(28, size), *[size] * 50])
    failed, _ = asking(lambda data: [right(data, b"\1\2\3\4")[: next(cuts)]], use)
    assert failed > 10


def test_the_resolver_says_no() -> None:
    async def use(resolver: UdpResolver) -> None:
        with pytest.raises(OutgoingFailed, match="code 3"):
            await resolver.addresses(b"there.test", v6=False)

    asking(lambda data: [right(data, code=3)], use)
