"""What the parent process and its workers say to each other: frames of a length and a body, over two pipes.

Requests are pickles. Replies are not: a worker has handled untrusted input, so the parent reads nothing from it but
bytes and an error's fields.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from typing import IO, Final, Protocol

from lucet import errors
from lucet.compile.chunks import Chunk
from lucet.compile.options import Options
from lucet.compile.plan import Plan

_LENGTH_SIZE: Final = 8
_OBJECT: Final = b"o"
_ERROR: Final = b"e"
_LOCATED: Final = {kind.__name__: kind for kind in errors.LocatedError.__subclasses__()}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker must know before it can compile chunks."""

    wasm: bytes
    plan: Plan
    options: Options
    emit: str
    """"obj" or "asm"."""


Request = Job | Chunk


class Writer(Protocol):
    def write(self, data: memoryview, /) -> int: ...


def send(stream: Writer, request: Request) -> None:
    _write_frame(stream, pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL))


def receive(stream: IO[bytes]) -> Request | None:
    """The next request; None at the end of the stream."""
    frame = _read_frame(stream)
    if frame is None:
        return None
    request: Request = pickle.loads(frame)
    return request


def reply(stream: Writer, result: bytes | errors.CompileError) -> None:
    if isinstance(result, errors.LocatedError):
        place = {"offset": result.offset, "function": result.function}
        fields = {"kind": type(result).__name__, "message": result.message, **place}
        _write_frame(stream, _ERROR + json.dumps(fields).encode())
    elif isinstance(result, errors.CompileError):
        _write_frame(stream, _ERROR + json.dumps({"message": str(result)}).encode())
    else:
        _write_frame(stream, _OBJECT + result)


def read_reply(stream: IO[bytes]) -> bytes | None:
    """The bytes of a reply; None at the end of the stream. Raises the error if the reply is one."""
    frame = _read_frame(stream)
    if not frame:
        return None
    if frame[:1] == _OBJECT:
        return frame[1:]
    fields = json.loads(frame[1:])
    kind = _LOCATED.get(fields.get("kind"))
    if kind is None:
        raise errors.CompilerFailed(fields["message"])
    raise kind(fields["message"], offset=fields["offset"], function=fields["function"])


def _write_frame(stream: Writer, body: bytes) -> None:
    data = memoryview(len(body).to_bytes(_LENGTH_SIZE, "little") + body)
    while data:
        data = data[stream.write(data) :]  # an unbuffered pipe may take a part


def _read_frame(stream: IO[bytes]) -> bytes | None:
    header = _read_exactly(stream, _LENGTH_SIZE)
    return None if header is None else _read_exactly(stream, int.from_bytes(header, "little"))


def _read_exactly(stream: IO[bytes], size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
