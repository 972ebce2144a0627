"""A compiler process: `python -m lucet.compile.worker OPT_LEVEL`, which the pool starts.

LLVM ends the process when it is unhappy, and a module may be written to make it so; here that costs one process. A
worker reads a Job, then chunks of it, and answers each chunk with an object or an error.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback

from lucet.compile import llvm, wire
from lucet.compile.chunks import Chunk, chunk_texts
from lucet.errors import CompileError, CompilerFailed
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module


def main(opt_level: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    # Standard output is the pipe to the parent: nothing else may write there.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    llvm.initialize(opt_level)
    job: wire.Job | None = None
    module = Module()
    with replies, os.fdopen(0, "rb") as requests:
        while (request := wire.receive(requests)) is not None:
            if isinstance(request, wire.Job):
                job = request
                module = decode_module(job.wasm)
                _limit_memory(job.options.worker_memory)
            else:
                assert job is not None
                _limit_time(job.options.worker_seconds)
                wire.reply(replies, _compile(module, job, request))


def _compile(module: Module, job: wire.Job, chunk: Chunk) -> bytes | CompileError:
    try:
        texts = chunk_texts(module, job.plan, chunk)
        return llvm.compile_texts(texts, job.options, emit=job.emit)
    except CompileError as error:
        return error
    except MemoryError:
        raise  # ends the process, whose memory is full; the pool knows what that means
    except Exception as error:  # whatever went wrong is the caller's to know, and this process can go on
        trace = "".join(traceback.format_exception(error)[-2:]).strip()
        return CompilerFailed(f"internal error in the compiler: {trace}")


def _limit_memory(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _limit_time(seconds: int) -> None:
    """Let the process have some more seconds of CPU time; then the kernel ends it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


if __name__ == "__main__":
    main(sys.argv[1])
