"""The compiler: a module's bytes to an artifact, one named step after the other."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from lucet.abi.tables import CONSTANTS
from lucet.compile import artifact
from lucet.compile.chunks import chunk_text, make_chunks, whole_module
from lucet.compile.layout import make_plan
from lucet.compile.metadata import Provenance
from lucet.compile.options import CPU_FEATURES, EMITS, Options
from lucet.compile.pool import Progress, compile_chunks
from lucet.compile.wire import Job
from lucet.errors import CompilerFailed
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_map import located_in
from lucet.wasm.valid import validate_module

if TYPE_CHECKING:
    from typing_extensions import Buffer

_DEFAULT: Final = Options()


def compile_module(
    wasm: bytes, options: Options | None = None, *, emit: str = "so", progress: Progress | None = None
) -> bytes:
    """Compile a module to a shared object. `emit` stops earlier: "obj", "asm" or "ir" of the whole module as one.

    progress(done, total) is called now and then, in this thread.
    """
    options = options or Options()
    if emit != "so":
        return _EMIT[emit](wasm, options, progress)
    module = _checked(wasm)
    plan = make_plan(module, options)
    chunks = make_chunks(module, plan)
    objects = compile_chunks(Job(wasm=wasm, plan=plan, options=options, emit="obj"), chunks, progress)
    return artifact.build(module, plan, objects, _provenance(wasm, options))


def compile(
    wasm: Buffer | str,
    *,
    opt_level: str = _DEFAULT.opt_level,
    target_cpu: str = _DEFAULT.target_cpu,
    bounds: str = _DEFAULT.bounds,
    count_instructions: bool = _DEFAULT.count_instructions,
    workers: int | None = _DEFAULT.workers,
    worker_memory: int = _DEFAULT.worker_memory,
    worker_seconds: int = _DEFAULT.worker_seconds,
    progress: Progress | None = None,
) -> bytes:
    """Compile a module to a shared object. A str is a module in the text format; bytes are in the binary format.

    The options are explained at lucet.compile.options.Options; progress(done, total) is called now and then, in this
    thread. Raises CompileError; of a text its line, column and excerpt say where. ValueError: no such option value.
    """
    options = Options(
        opt_level=opt_level,
        target_cpu=target_cpu,
        bounds=bounds,
        count_instructions=count_instructions,
        workers=workers,
        worker_memory=worker_memory,
        worker_seconds=worker_seconds,
    )
    if not isinstance(wasm, str):
        return compile_module(bytes(wasm), options, progress=progress)
    binary = text_to_binary(wasm)
    with located_in(wasm):
        return compile_module(binary, options, progress=progress)


def emit_ir(wasm: bytes, options: Options | None = None) -> str:
    """The module's LLVM IR, before any pass."""
    module = _checked(wasm)
    return chunk_text(module, make_plan(module, options or Options()), whole_module(module))


def _checked(wasm: bytes) -> Module:
    """Decoded and validated, but for the function bodies: the workers do those."""
    module = decode_module(wasm)
    validate_module(module)
    return module


def _emit_ir(wasm: bytes, options: Options, _: Progress | None) -> bytes:
    return emit_ir(wasm, options).encode()


def _emit_obj(wasm: bytes, options: Options, progress: Progress | None) -> bytes:
    return _compile_whole(wasm, options, "obj", progress)


def _emit_asm(wasm: bytes, options: Options, progress: Progress | None) -> bytes:
    return _compile_whole(wasm, options, "asm", progress)


def _compile_whole(wasm: bytes, options: Options, emit: str, progress: Progress | None) -> bytes:
    module = _checked(wasm)
    job = Job(wasm=wasm, plan=make_plan(module, options), options=options, emit=emit)
    return compile_chunks(job, [whole_module(module)], progress)[0]


_EMIT: Final = {"obj": _emit_obj, "asm": _emit_asm, "ir": _emit_ir}
assert {*_EMIT, "so"} == set(EMITS)


def _provenance(wasm: bytes, options: Options) -> Provenance:
    cpu_name, names = _required_cpu(options)
    return Provenance(
        source_digest=hashlib.sha256(wasm).digest(),
        producer=_producer(options),
        cpu_name=cpu_name,
        cpu_features=sum(CONSTANTS[f"LUCET_CPU_{name}"] for name in names),
        flags=CONSTANTS["LUCET_FLAG_COUNTS_INSTRUCTIONS"] if options.count_instructions else 0,
    )


def _producer(options: Options) -> str:
    counts = ", counts instructions" if options.count_instructions else ""
    bounds = f"bounds {options.bounds}"
    return f"lucet {_version()}, {_llvm_version()}, opt-level {options.opt_level}, {bounds}{counts}"


_LLVM_NAMES: Final = {
    "SSE4_1": {"sse4.1"},
    "SSE4_2": {"sse4.2"},
    "BMI1": {"bmi"},
    "AVX512": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
}
"""Feature -> what LLVM calls it, where that is not its name in small letters."""


def _required_cpu(options: Options) -> tuple[str, tuple[str, ...]]:
    """Name of the target CPU, and the features that the machine must have."""
    if options.target_cpu != "native":
        return options.target_cpu, CPU_FEATURES[options.target_cpu]
    from lucet.compile import llvm  # only here does the parent process need LLVM

    name, features = llvm.host_cpu()
    present = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    known = CPU_FEATURES["x86-64-v4"]
    return name, ("NATIVE", *(one for one in known if _LLVM_NAMES.get(one, {one.lower()}) <= present))


def _version() -> str:
    try:
        return version("lucet")
    except PackageNotFoundError:  # a source tree that nobody installed
        return "unknown"


def _llvm_version() -> str:
    try:
        return f"llvmlite {version('llvmlite')}"
    except PackageNotFoundError as error:
        raise CompilerFailed("the compiler needs llvmlite: pip install 'lucet[compile]'") from error
