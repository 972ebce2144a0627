"""The compiler: a module's bytes to an artifact, one named step after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from lucet.abi.tables import CONSTANTS
from lucet.compile import artifact
from lucet.compile.chunks import chunk_text, make_chunks, whole_module
from lucet.compile.imports import Description, bind, read_bindings, validate_imports
from lucet.compile.layout import make_plan
from lucet.compile.metadata import Provenance
from lucet.compile.objects import compile_incrementally
from lucet.compile.options import CPU_FEATURES, EMITS, LLVM_FEATURES, Options
from lucet.compile.pool import Progress, compile_chunks
from lucet.compile.wire import Job
from lucet.errors import CompilerFailed
from lucet.wasm import dwarf
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_map import located_in
from lucet.wasm.valid import validate_module

if TYPE_CHECKING:
    from typing_extensions import Buffer

_DEFAULT: Final = Options()


def compile_module(
    wasm: bytes,
    options: Options | None = None,
    *,
    emit: str = "so",
    progress: Progress | None = None,
    description: Description | None = None,
    command: bool = False,
) -> bytes:
    """Compile a module to a shared object. `emit` stops earlier: "obj", "asm" or "ir" of the whole module as one.

    progress(done, total) is called now and then, in this thread. description, command: see imports.validate_imports.
    """
    options = options or Options()
    if emit != "so":
        if description is not None or command:
            _checked(wasm, options, description, command=command)
        return _EMIT[emit](wasm, options, progress)
    module = _checked(wasm, options, description, command=command)
    plan = make_plan(module, options)
    chunks = make_chunks(module, plan)
    job = Job(wasm=wasm, plan=plan, options=options, emit="obj")
    if options.incremental:
        objects = compile_incrementally(module, job, chunks, progress)
    else:
        objects = compile_chunks(job, chunks, progress)
    return artifact.build(module, plan, objects, _provenance(wasm, options, module))


def compile(
    wasm: Buffer | str,
    *,
    opt_level: str = _DEFAULT.opt_level,
    target_cpu: str = _DEFAULT.target_cpu,
    bounds: str = _DEFAULT.bounds,
    target_features: Sequence[str] = _DEFAULT.target_features,
    count_instructions: bool = _DEFAULT.count_instructions,
    min_reserved_size: int | None = _DEFAULT.min_reserved_size,
    max_reserved_size: int | None = _DEFAULT.max_reserved_size,
    guard_size: int = _DEFAULT.guard_size,
    debug_info: bool = _DEFAULT.debug_info,
    bindings: Mapping[str, Mapping[str, str]] | None = None,
    hot: Iterable[int] | None = _DEFAULT.hot,
    validate: Description | None = None,
    workers: int | None = _DEFAULT.workers,
    worker_memory: int = _DEFAULT.worker_memory,
    worker_seconds: int = _DEFAULT.worker_seconds,
    incremental: bool = _DEFAULT.incremental,
    progress: Progress | None = None,
) -> bytes:
    """Compile a module to a shared object. A str is a module in the text format; bytes are in the binary format.

    The options are explained at lucet.compile.options.Options; bindings: {"module": {"field": "name"}}, see
    imports.read_bindings; validate: the functions that there are to be imported, {"module": {"field": FuncType}};
    progress(done, total) is called now and then, in this thread. Raises CompileError; of a text its line, column and
    excerpt say where. LinkError: imports that are not bound or described. ValueError: no such value of an option.
    """
    options = Options(
        opt_level=opt_level,
        target_cpu=target_cpu,
        bounds=bounds,
        target_features=tuple(target_features),
        count_instructions=count_instructions,
        min_reserved_size=min_reserved_size,
        max_reserved_size=max_reserved_size,
        guard_size=guard_size,
        debug_info=debug_info,
        bindings=read_bindings([json.dumps(bindings)]) if bindings is not None else (),
        hot=None if hot is None else tuple(hot),
        workers=workers,
        worker_memory=worker_memory,
        worker_seconds=worker_seconds,
        incremental=incremental,
    )
    if not isinstance(wasm, str):
        return compile_module(bytes(wasm), options, progress=progress, description=validate)
    binary = text_to_binary(wasm)
    with located_in(wasm):
        return compile_module(binary, options, progress=progress, description=validate)


def emit_ir(wasm: bytes, options: Options | None = None) -> str:
    """The module's LLVM IR, before any pass."""
    options = options or Options()
    module = _checked(wasm, options)
    return chunk_text(module, make_plan(module, options), whole_module(module))


def _checked(wasm: bytes, options: Options, description: Description | None = None, *, command: bool = False) -> Module:
    """Decoded and validated, but for the function bodies: the workers do those. The imports have the host's names."""
    module = decode_module(wasm)
    validate_module(module)
    if description is not None or command:
        validate_imports(module, description, command=command)
    return bind(module, options.bindings)


def _emit_ir(wasm: bytes, options: Options, _: Progress | None) -> bytes:
    return emit_ir(wasm, options).encode()


def _emit_obj(wasm: bytes, options: Options, progress: Progress | None) -> bytes:
    return _compile_whole(wasm, options, "obj", progress)


def _emit_asm(wasm: bytes, options: Options, progress: Progress | None) -> bytes:
    return _compile_whole(wasm, options, "asm", progress)


def _compile_whole(wasm: bytes, options: Options, emit: str, progress: Progress | None) -> bytes:
    module = _checked(wasm, options)
    job = Job(wasm=wasm, plan=make_plan(module, options), options=options, emit=emit)
    return compile_chunks(job, [whole_module(module)], progress)[0]


_EMIT: Final = {"obj": _emit_obj, "asm": _emit_asm, "ir": _emit_ir}
assert {*_EMIT, "so"} == set(EMITS)


def _provenance(wasm: bytes, options: Options, module: Module) -> Provenance:
    cpu_name, names = _required_cpu(options)
    return Provenance(
        source_digest=hashlib.sha256(wasm).digest(),
        producer=_producer(options),
        cpu_name=cpu_name,
        cpu_features=sum(CONSTANTS[f"LUCET_CPU_{name}"] for name in names),
        flags=CONSTANTS["LUCET_FLAG_COUNTS_INSTRUCTIONS"] if options.count_instructions else 0,
        debug_info=options.debug_info,
        sources=dwarf.pack([(name, contents) for name, contents, _ in module.customs], wasm),
    )


def _producer(options: Options) -> str:
    counts = ", counts instructions" if options.count_instructions else ""
    bounds = f"bounds {options.bounds}"
    features = "".join(f", {feature}" for feature in options.target_features)
    return f"lucet {_version()}, {_llvm_version()}, opt-level {options.opt_level}, {bounds}{features}{counts}"


def _required_cpu(options: Options) -> tuple[str, tuple[str, ...]]:
    """Name of the target CPU, and the features that the machine must have."""
    if options.target_cpu != "native":
        return options.target_cpu, options.features()
    from lucet.compile import llvm  # only here does the parent process need LLVM

    name, features = llvm.host_cpu()
    present = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    known = CPU_FEATURES["x86-64-v4"]
    return name, ("NATIVE", *(one for one in known if present.issuperset(LLVM_FEATURES[one])))


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
