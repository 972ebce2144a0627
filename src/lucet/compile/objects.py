"""Objects of earlier compilations: those of unchanged functions need not be compiled again.

The unit is the chunk. Its key covers its functions' bodies and, as far as translation can see it, everything else of
the module, the options and the compiler; also all functions that are so short that calls of them may be inlined. It
does not cover where in the file a body stands, since objects have offsets from the start of a function only. So an
artifact has the same bytes with and without the store.

An entry is one file in the cache's directory, <key>.o: the SHA-256 of the object, then the object. A damaged one is
compiled again. Objects and artifacts share the directory's limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from os import utime
from pathlib import Path
from typing import Any, Final

from lucet.compile.cache import cache_directory, cache_key, cache_size, evict, prepare, write_whole
from lucet.compile.chunks import Chunk
from lucet.compile.emit_inline import MAX_BODY
from lucet.compile.options import Options
from lucet.compile.plan import Plan
from lucet.compile.pool import Progress, compile_chunks
from lucet.compile.wire import Job
from lucet.wasm.module import Module

_DIGEST_SIZE: Final = hashlib.sha256().digest_size


def compile_incrementally(
    module: Module, job: Job, chunks: Sequence[Chunk], progress: Progress | None = None
) -> list[bytes]:
    """compile_chunks, but for the chunks whose objects are there."""
    directory, limit = cache_directory(), cache_size()
    prepare(directory)
    paths = [directory / f"{key}.o" for key in object_keys(module, job.plan, chunks, job.options)]
    objects = [_load(path) for path in paths]
    missing = [index for index, found in enumerate(objects) if found is None]
    if missing:
        compiled = compile_chunks(job, [chunks[index] for index in missing], progress)
        for index, data in zip(missing, compiled, strict=True):
            objects[index] = data
            # Without room for the entry, what has been compiled is as good.
            with suppress(OSError):
                write_whole(paths[index], hashlib.sha256(data).digest() + data)
        evict(directory, limit)
    return [found for found in objects if found is not None]


def object_keys(module: Module, plan: Plan, chunks: Iterable[Chunk], options: Options) -> list[str]:
    """Of each chunk, the hexadecimal digest of everything that decides its object's bytes."""
    context = hashlib.sha256("\n".join([cache_key(b"", options), *_facts(module), *_facts(plan)]).encode())
    if plan.inlines:
        for position, function in enumerate(module.bodies):
            if len(function.body) <= MAX_BODY:
                context.update(b"%d %d " % (position, len(function.body)) + function.body)
    keys = []
    for chunk in chunks:
        digest = context.copy()
        digest.update(f"{chunk.start} {chunk.stop} {chunk.runtime}\n".encode())
        for function in module.bodies[chunk.start : chunk.stop]:
            digest.update(len(function.body).to_bytes(4, "little") + function.body)
        keys.append(digest.hexdigest())
    return keys


_UNSEEN: Final = frozenset({"bodies", "customs", "func_names", "module_name", "images", "template"})
"""Fields of Module and Plan that translation does not look at, or not beyond a chunk's own functions."""


def _facts(one: Module | Plan) -> list[str]:
    return [f"{each.name}={_text(getattr(one, each.name))}" for each in fields(one) if each.name not in _UNSEEN]


def _text(value: Any) -> str:
    if isinstance(value, frozenset):
        return repr(sorted(value))
    if isinstance(value, tuple) and value and hasattr(value[0], "bytes"):
        return repr([_without_contents(data) for data in value])
    return repr(value)


def _without_contents(data: Any) -> list[Any]:
    """A data segment, of the module or of the plan. The section stands behind the code, so its offsets move with it."""
    values = {each.name: getattr(data, each.name) for each in fields(data)}
    values["bytes"] = len(data.bytes)
    if (expression := values.get("offset_expr")) is not None:
        values["offset_expr"] = [(opcode, immediate) for opcode, _, immediate in expression]
    if "mode" in values:
        del values["offset"]
    return sorted(values.items())


def _load(path: Path) -> bytes | None:
    try:
        utime(path)  # used now: from here on evict leaves it
        data = path.read_bytes()
    except OSError:
        return None
    digest, contents = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    return contents if hashlib.sha256(contents).digest() == digest else None
