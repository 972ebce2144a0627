"""Asking the domain name system, for guests that do it themselves: a Resolver that sends UDP to one server.

Ids and source ports are random, and an answer must repeat the question (RFC 5452). Nothing is cached.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import struct
from typing import Any, Final

from lucet.terrarium.environment import Resolver
from lucet.terrarium.http import OutgoingFailed

PORT: Final = 53
ATTEMPTS: Final = 3
PATIENCE: Final = 2.0
"""Seconds for each attempt."""
MAX_QUERY: Final = 512
_HEAD: Final = struct.Struct(">HHHHHH")
_RECORD: Final = struct.Struct(">HHIH")
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_RCODE: Final = 0x000F
_A: Final = 1
_AAAA: Final = 28
_IN: Final = 1
_LABEL: Final = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class UdpResolver(Resolver):
    """Asks a server at an address, "192.0.2.53". Not by its name."""

    def __init__(self, address: str, port: int = PORT) -> None:
        self._where = (address, port)

    async def query(self, message: bytes) -> bytes:
        """Any standard query with one question. What is truncated comes back as it is, marked so."""
        question = _question(message)
        return message[:2] + (await self._ask(question, message[2:]))[2:]

    async def addresses(self, name: bytes, *, v6: bool) -> list[bytes]:
        labels = name.removesuffix(b".").split(b".")
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            raise OutgoingFailed(f"not a host's name: {name[:100]!r}")
        kind = _AAAA if v6 else _A
        coded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        question = coded + struct.pack(">HH", kind, _IN)
        answer = await self._ask(question, _HEAD.pack(0, 0x0100, 1, 0, 0, 0)[2:] + question)
        code = int.from_bytes(answer[2:4], "big") & _RCODE
        if code:
            raise OutgoingFailed(f"{name.decode()}: the resolver answers with code {code}")
        return _records(answer, kind, 16 if v6 else 4)

    async def _ask(self, question: bytes, rest: bytes) -> bytes:
        """rest: the query without its id. OutgoingFailed: no answer in time."""
        loop = asyncio.get_running_loop()
        for _ in range(ATTEMPTS):
            asking = secrets.token_bytes(2)
            answer: asyncio.Future[bytes] = loop.create_future()
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda asking=asking, answer=answer: _Asking(asking, question, answer),  # type: ignore[misc]
                    remote_addr=self._where,
                )
            except OSError as error:
                raise OutgoingFailed(f"the resolver: {error}") from error
            try:
                transport.sendto(asking + rest)
                async with asyncio.timeout(PATIENCE):
                    return await answer
            except TimeoutError:
                continue
            except OSError as error:
                raise OutgoingFailed(f"the resolver: {error}") from error
            finally:
                transport.close()
        raise OutgoingFailed("the resolver does not answer")


class _Asking(asyncio.DatagramProtocol):
    """One attempt. What is no answer to it is passed over: anybody may send something."""

    def __init__(self, asking: bytes, question: bytes, answer: asyncio.Future[bytes]) -> None:
        self._asking = asking
        self._question = question
        self._answer = answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self._answer.done() and self._is_answer(data):
            self._answer.set_result(data)

    def _is_answer(self, data: bytes) -> bool:
        if len(data) < _HEAD.size or data[:2] != self._asking:
            return False
        _, flags, questions, *_ = _HEAD.unpack_from(data)
        return (
            bool(flags & _RESPONSE)
            and not flags & _OPCODE
            and questions == 1
            and data[_HEAD.size : _HEAD.size + len(self._question)] == self._question
        )

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


def _question(message: bytes) -> bytes:
    """The question section of a query. OutgoingFailed: it is none that is passed on."""
    if not _HEAD.size < len(message) <= MAX_QUERY:
        raise OutgoingFailed(f"a query of {len(message)} bytes")
    _, flags, questions, answers, authorities, additional = _HEAD.unpack_from(message)
    if flags & (_RESPONSE | _OPCODE | _TRUNCATED) or (questions, answers, authorities) != (1, 0, 0) or additional > 1:
        raise OutgoingFailed("not a standard query with one question")
    at = _HEAD.size
    while at < len(message) and message[at]:
        if message[at] > 63 or at - _HEAD.size > 254:
            raise OutgoingFailed("the question has no name")
        at += message[at] + 1
    end = at + 5
    if end > len(message):
        raise OutgoingFailed("the question is cut off")
    return message[_HEAD.size : end]


def _records(message: bytes, kind: int, size: int) -> list[bytes]:
    """The data of the answers of a kind. OutgoingFailed: the message is damaged."""
    try:
        _, _, questions, answers, _, _ = _HEAD.unpack_from(message)
        at = _HEAD.size
        for _ in range(questions):
            at = _behind_name(message, at) + 4
        found = []
        for _ in range(answers):
            at = _behind_name(message, at)
            record, group, _, length = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            data = message[at : at + length]
            at += length
            if (record, group, len(data)) == (kind, _IN, size):
                found.append(data)
    except (struct.error, IndexError):
        raise OutgoingFailed("the resolver's answer is damaged") from None
    return found


def _behind_name(message: bytes, at: int) -> int:
    """Pointers are not followed: names are not needed."""
    while True:
        length = message[at]
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise IndexError
        at += length + 1
        if not length:
            return at
