"""Cuts a module into chunks, each one LLVM module, and makes a chunk's text.

What is in a chunk depends on the module alone, never on the machine: the objects are the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zlib import crc32

from lucet.compile.effort import Effort, has_vectors, is_control
from lucet.compile.emit_inline import Inliner
from lucet.compile.extreme import is_extreme
from lucet.compile.function import translate
from lucet.compile.ir import PERSONALITY, FunctionText, module_text, signature
from lucet.compile.plan import Plan
from lucet.compile.runtime_ir import runtime_functions
from lucet.wasm.code import decode_code
from lucet.wasm.module import Code, Module
from lucet.wasm.valid_code import validate_code

CHUNK_SIZE: Final = 32_000
"""Bytes of function bodies at most, unless one alone has more. Smaller chunks repeat declarations; larger ones take
memory, leave processes idle at the end, and must be compiled again for every change in them."""
_SMALLEST: Final = 4
_CHANCE: Final = 8
"""From a fourth of the size on, a chunk ends where one function in eight, chosen by its content, ends. So a function
that comes, goes or changes its size moves the ends of its own chunk only, and objects of the others can be reused."""
_FUNCTION_COST: Final = 64
"""Bytes that a function counts beside its body, also one of the runtime's."""
_LARGE: Final = 16_000
"""Bytes of a body that is worth a look at whether it is extreme."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Defined functions start to stop, as positions in module.bodies; the first chunk also has the runtime's."""

    start: int
    stop: int
    runtime: bool
    size: int


def make_chunks(module: Module, plan: Plan, *, chunk_size: int = CHUNK_SIZE) -> list[Chunk]:
    chunks: list[Chunk] = []
    start = 0
    runtime_size = _FUNCTION_COST * (len(plan.function_imports) + len(plan.entry_types))
    size = runtime_size
    for position, body in enumerate(module.bodies):
        size += len(body.body) + _FUNCTION_COST
        chosen = size >= chunk_size // _SMALLEST and crc32(body.body) % _CHANCE == 0
        if chosen or size >= chunk_size:
            chunks.append(Chunk(start=start, stop=position + 1, runtime=not chunks, size=size))
            start, size = position + 1, 0
    if start < len(module.bodies) or not chunks:
        chunks.append(Chunk(start=start, stop=len(module.bodies), runtime=not chunks, size=size))
    return chunks


def whole_module(module: Module) -> Chunk:
    size = sum(len(body.body) for body in module.bodies)
    return Chunk(start=0, stop=len(module.bodies), runtime=True, size=size)


def chunk_text(module: Module, plan: Plan, chunk: Chunk) -> str:
    """The LLVM module of all functions. Raises a CompileError for the first that is at fault."""
    functions = _translated(module, plan, chunk)
    return module_text(functions, _declarations(module, plan, functions))


def chunk_texts(module: Module, plan: Plan, chunk: Chunk) -> dict[Effort, str]:
    """The same as modules by what is to be done with their functions, which become one object."""
    functions = _translated(module, plan, chunk)
    texts = {}
    for effort in Effort:
        # An object must come of it, if of no function.
        some = [one for one in functions if one.effort is effort]
        if some or (effort is Effort.USUAL and not functions):
            texts[effort] = module_text(some, _declarations(module, plan, some), optimise=effort is not Effort.NONE)
    return texts


def _translated(module: Module, plan: Plan, chunk: Chunk) -> list[FunctionText]:
    """Decode, validate and translate the chunk's functions."""
    functions = list(runtime_functions(module, plan)) if chunk.runtime else []
    inliner = Inliner(module) if plan.inlines else None
    imported = module.imported_func_count
    for function in range(imported + chunk.start, imported + chunk.stop):
        code = decode_code(module, function)
        validate_code(module, function, code)
        size = len(module.bodies[function - imported].body)
        effort = _effort(plan, function, code, size)
        functions.append(translate(module, plan, function, code, inliner, effort=effort))
    return functions


def _effort(plan: Plan, function: int, code: Code, size: int) -> Effort:
    if size >= _LARGE and is_extreme(code):
        return Effort.NONE
    if not plan.graded:
        return Effort.USUAL
    little = is_control(code) if plan.hot is None else function not in plan.hot and not has_vectors(code)
    return Effort.LITTLE if little else Effort.USUAL


def _declarations(module: Module, plan: Plan, functions: list[FunctionText]) -> list[str]:
    defined = {function.symbol for function in functions}
    prefix, convention = ("t", "tailcc ") if plan.tail_calls else ("f", "")
    attributes = "" if plan.exceptions else " nounwind"
    lines = []
    if any(f"@{PERSONALITY}" in function.definition for function in functions):
        lines.append(f"declare i32 @{PERSONALITY}(...)")
    for callee in sorted(set().union(*(function.called for function in functions))):
        if f"{prefix}{callee}" not in defined:
            sig = signature(module.func_type(callee))
            params = sig.parameters(spills=plan.tail_calls)
            lines.append(f"declare hidden {convention}{sig.returns} @{prefix}{callee}({params}){attributes}")
    for table in sorted(set().union(*(function.tables for function in functions))):
        lines.append(f"@table{table} = external hidden constant [{plan.tables[table].minimum} x i64], align 8")
    return lines
