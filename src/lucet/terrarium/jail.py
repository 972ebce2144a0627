"""Running a command of a toolchain over files of somebody who is not trusted: see confined.py for how it is held."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lucet
from lucet.errors import LucetError
from lucet.terrarium.confined import receive, send

_GRACE: Final = 15.0
"""Seconds beyond the deadline, in which the confined process ends by itself."""
_ANSWER_EXTRA: Final = 4 << 20


class JailFailed(LucetError):
    """The confined process could not be started, or did not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JailLimits:
    """Bytes, seconds and counts; of each process, but for scratch, processes and wall."""

    wall: float = 300.0
    cpu: int = 240
    memory: int = 2 << 30
    """Bytes that a process may write to."""
    addresses: int = 0
    """Bytes of address space; 0: as many as it likes."""
    scratch: int = 512 << 20
    """Bytes of all files."""
    file: int = 256 << 20
    descriptors: int = 512
    processes: int = 64
    log: int = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class JailRequest:
    command: Sequence[str]
    """"{work}" in it stands for the folder of the files, where it also begins."""
    files: Mapping[str, bytes]
    """By their path, relative to that folder."""
    outputs: Mapping[str, int]
    """Paths of what is to be given back, and how many bytes that may be."""
    reads: Sequence[str] = ()
    """Folders that the command may read, besides /usr."""
    copies: Sequence[tuple[str, str]] = ()
    """Folders, and names under which the command gets a copy of each that it may write to."""
    links: Sequence[tuple[str, str]] = ()
    """Folders of `reads`, and names under which the command finds them beside the files."""
    env: Mapping[str, str] = field(default_factory=dict)
    limits: JailLimits = JailLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class JailResult:
    status: int
    """Of the command; negative: the signal that ended it."""
    log: str
    """What it printed."""
    lost: int
    """Bytes that it printed beyond the limit."""
    timed_out: bool
    outputs: Mapping[str, bytes]
    """Those that there are: regular files within their limits."""
    cpu_time: float
    memory: int
    missing: tuple[str, ...]
    """What the kernel does not let us confine."""


class Jail:
    """Where this server's builds run. scratch: a folder for what they need meanwhile; what is in it is removed.

    say: told once of what the kernel does not let us confine. required: then refuse. isolate: False leaves the
    namespaces out, for tests.
    """

    def __init__(
        self,
        scratch: Path | None = None,
        *,
        say: Callable[[str], None] = lambda text: None,
        required: bool = False,
        isolate: bool = True,
    ) -> None:
        self._scratch = scratch
        self._say = say
        self._told = False
        self._required = required
        self._isolate = isolate
        if scratch is not None:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in scratch.glob("build-*"):  # by a server that was killed
                shutil.rmtree(left, ignore_errors=True)

    async def run(self, request: JailRequest) -> JailResult:
        """JailFailed."""
        result = await run_confined(request, scratch=self._scratch, isolate=self._isolate)
        if result.missing and not self._told:
            self._told = True
            self._say(f"builds are confined with less than there could be: {'; '.join(result.missing)}")
        if result.missing and self._required:
            raise JailFailed(f"this server builds only where it can confine builds: {'; '.join(result.missing)}")
        return result


def python_command(module: str, *arguments: str) -> tuple[list[str], list[str], dict[str, str]]:
    """To run a module of this Python: (command, what it reads, its environment)."""
    package = Path(lucet.__file__).resolve().parent
    places = {str(package), sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent)}
    path = [str(package.parent)]
    from importlib.util import find_spec

    found = find_spec("llvmlite")
    if found is not None and found.origin is not None:
        site = Path(found.origin).parents[1]
        path.append(str(site))
        places.add(str(site))
    environment = {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return [sys.executable, "-P", "-m", module, *arguments], sorted(places), environment


async def run_confined(request: JailRequest, *, scratch: Path | None = None, isolate: bool = True) -> JailResult:
    """Run it. scratch: where a folder for it is made. isolate: False leaves the namespaces out. JailFailed."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=scratch, ignore_cleanup_errors=True) as folder:
        limits = request.limits
        header = {
            "command": list(request.command),
            "env": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "{work}",
                "TMPDIR": "{work}",
                "LANG": "C.UTF-8",
                **request.env,
            },
            "files": [(name, 0o644) for name in request.files],
            "contents": len(request.files),
            "outputs": list(request.outputs.items()),
            "reads": [*request.reads, *(source for source, _ in request.copies)],
            "copies": list(request.copies),
            "links": list(request.links),
            "scratch": folder,
            "isolate": isolate,
            "limits": {
                name: getattr(limits, name)
                for name in JailLimits.__dataclass_fields__
                if name != "addresses" or limits.addresses
            },
        }
        given = io.BytesIO()
        send(given, header, list(request.files.values()))
        size = sum(request.outputs.values()) + limits.log * 6 + _ANSWER_EXTRA
        data, said = await _exchange(given.getbuffer(), size, limits.wall + _GRACE)
    try:
        answer, contents = receive(io.BytesIO(data))
    except (EOFError, ValueError, KeyError) as error:
        raise JailFailed(f"the confined process gave no answer: {said or 'it was killed'}") from error
    if "failed" in answer:
        raise JailFailed(str(answer["failed"]))
    return _result(answer, contents)


def _result(answer: dict[str, Any], contents: list[bytes]) -> JailResult:
    return JailResult(
        status=answer["status"],
        log=answer["log"],
        lost=answer["lost"],
        timed_out=answer["timed_out"],
        outputs=dict(zip(answer["outputs"], contents, strict=True)),
        cpu_time=answer["cpu_time"],
        memory=answer["memory"],
        missing=tuple(answer["missing"]),
    )


async def _exchange(given: memoryview, size: int, seconds: float) -> tuple[bytes, str]:
    package_parent = str(Path(lucet.__file__).resolve().parent.parent)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-S", "-m", "lucet.terrarium.confined"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": package_parent, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None

    async def feed(stream: asyncio.StreamWriter) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            stream.write(given)
            await stream.drain()
        stream.close()

    try:
        async with asyncio.timeout(seconds):
            _, data, said = await asyncio.gather(
                feed(process.stdin), _bounded(process.stdout, size), _bounded(process.stderr, 4096)
            )
            await process.wait()
    except TimeoutError:
        return b"", "it did not end in time"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return data, said.decode(errors="replace").strip()


async def _bounded(stream: asyncio.StreamReader, size: int) -> bytes:
    """All that comes, of which so many bytes are kept."""
    kept = bytearray()
    while data := await stream.read(65536):
        kept += data[: size - len(kept)]
    return bytes(kept)
