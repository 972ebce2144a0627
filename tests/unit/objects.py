"""Object files from LLVM IR, and the smallest modules and plans around them, for the tests of the linker step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from llvmlite import binding

from lucet.compile.metadata import Provenance
from lucet.compile.plan import Plan
from lucet.wasm.module import Export, FuncIdx, FunctionBody, Module, TypeIdx
from lucet.wasm.types import I32, I64, FuncType

HEAD = 'target triple = "x86_64-unknown-linux-gnu"\n'

PROVENANCE = Provenance(source_digest=bytes(range(32)), producer="a test", cpu_name="x86-64", cpu_features=0)


def compile_ir(text: str, *, opt: int = 1, reloc: str = "pic") -> bytes:
    """An object file, as the translator's options have it."""
    module = binding.parse_assembly(HEAD + text)
    module.verify()
    machine = _target().create_target_machine(cpu="x86-64", opt=opt, reloc=reloc, codemodel="small")
    return bytes(machine.emit_object(module))


@functools.cache
def _target() -> Any:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple("x86_64-unknown-linux-gnu")


def function(index: int, body: str, *, result: str = "i32", params: str = "ptr %vm, i32 %x", lines: bool = True) -> str:
    """A guest function with debug locations `!dbg !<line>`, which with_lines() defines."""
    scope = f"!dbg !{_scope(index)} " if lines else ""
    return f"define hidden {result} @f{index}({params}) nounwind uwtable {scope}{{\n{body}\n}}\n"


def with_lines(text: str, functions: Sequence[int]) -> str:
    """Add the metadata for the functions: `!dbg LINE(n)` in function i's body becomes a location at line n of it."""
    nodes = [
        "!llvm.dbg.cu = !{!0}\n!llvm.module.flags = !{!2, !3}",
        "!0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !1, emissionKind: LineTablesOnly)",
        '!1 = !DIFile(filename: "module.wasm", directory: "")',
        '!2 = !{i32 7, !"Dwarf Version", i32 5}',
        '!3 = !{i32 2, !"Debug Info Version", i32 3}',
        "!4 = !DISubroutineType(types: !{})",
    ]
    for index in functions:
        nodes.append(
            f'!{_scope(index)} = distinct !DISubprogram(name: "f{index}", file: !1, line: 1, type: !4, unit: !0, '
            "spFlags: DISPFlagDefinition)"
        )
    parts = text.split("LINE(")
    result = parts[0]
    for number, part in enumerate(parts[1:]):
        place, rest = part.split(")", 1)
        owner, line = place.split(":")
        node = 10_000_000 + number
        nodes.append(f"!{node} = !DILocation(line: {line}, scope: !{_scope(int(owner))})")
        result += f"!{node}{rest}"
    return result + "\n".join(nodes) + "\n"


def _scope(index: int) -> int:
    return 100 + index


def a_module(
    types: Sequence[FuncType], *, exports: Mapping[str, int] | None = None, names: Mapping[int, str] | None = None
) -> Module:
    """A module of one function per type given, in that order."""
    return Module(
        types=tuple(types),
        funcs=tuple(TypeIdx(index) for index in range(len(types))),
        all_funcs=tuple(TypeIdx(index) for index in range(len(types))),
        bodies=tuple(FunctionBody(offset=1000 * (index + 1), body=b"\0\x0b") for index in range(len(types))),
        exports=tuple(
            Export(name=name, kind="func", index=FuncIdx(index), offset=0) for name, index in (exports or {}).items()
        ),
        func_names=dict(names or {}),
    )


def a_plan(module: Module, **changes: Any) -> Plan:
    """The plan of a_module(), with nothing but functions."""
    canonical = tuple(dict.fromkeys(module.types))
    type_map = tuple(canonical.index(one) for one in module.types)
    values: dict[str, Any] = {
        "types": canonical,
        "type_map": type_map,
        "function_types": tuple(type_map[index] for index in module.all_funcs),
        "entry_types": (),
        "import_offsets": (),
        "function_imports": (),
        "memories": (),
        "globals": (),
        "tables": (),
        "ref_offsets": {},
        "elems": (),
        "datas": (),
        "images": (),
        "template": bytes(64),
        "instance_size": 64,
        "tail_calls": False,
        "escapes": frozenset(),
        "init_globals": (),
        "init_tables": (),
        "init_elems": (),
        "init_datas": (),
    }
    return Plan(**(values | changes))


UNARY = FuncType((I32,), (I32,))
BINARY64 = FuncType((I64, I64), (I64,))
