"""The plan of a module: everything that code generation, the init function and the artifact must agree about.

`make_plan(module, options)` looks at the whole module once and decides where each thing stands in the instance area
below vmctx, which tables are static, whether memory 0 starts as an image or is filled by init, and which functions
need a funcref record. All offsets are in bytes from vmctx, negative, and end up in the artifact as they are.

Symbols in the objects, all hidden (the linker step gives them people's names):
    f<function>      C convention: the body (or, in a module with tail calls, a wrapper around t<function>); for an
                     imported function the thunk that calls the builtin hostcall
    t<function>      the body in tail-calling convention: every defined function of a module with tail calls
    j<function>      imported function as an entry of a static table: calls through the import's words
    e<type>          entry trampoline of a canonical type (`entry_types` only)
    init             if has_init
    table<table>     static table, undefined in the objects: an array of struct static_entry made by the linker step
"""

from __future__ import annotations

from dataclasses import dataclass

from lucet.wasm.types import FuncType, ValType


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    minimum: int
    maximum: int | None
    imported: bool
    is_64: bool = False
    shared: bool = False
    page_size_log2: int = 16
    checked: bool
    """The end of every access is compared with the size word, so no address space is relied on."""
    offset: int
    """Word that holds the base address; 0 for the memory in the slot, whose base is vmctx: memory 0 when it is the
    instance's own, of pages of 64 KiB, and not shared."""
    reserved: int
    """Bytes of address space from the base that the code relies on: every 32-bit address, if not checked. 64-bit ones
    are compared with the size word, then the guard catches what goes over the end. Checked: the most that the memory
    may grow to, or 0."""
    guard: int
    """Bytes after those, and after the largest size, that must fault; 0 when checked."""


@dataclass(frozen=True, kw_only=True)
class GlobalPlan:
    valtype: ValType
    imported: bool
    mutable: bool
    indirect: bool
    """The slot holds a pointer to the cell (imported mutable)."""
    observable: bool
    """Others see it after a trap (exported or imported, mutable): stores must not be moved or merged."""
    offset: int
    constant: int | None
    """The bits of an own global's constant initial value, which is in the template; None when init computes it or it is
    imported."""


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    reftype: ValType
    minimum: int
    maximum: int | None
    imported: bool
    is_64: bool = False
    offset: int
    """Word that holds the pointer to the table; 0 when static."""
    entries: tuple[int | None, ...] | None
    """Static table: function index or None (null) for each of its `minimum` entries. None: a dynamic table."""


@dataclass(frozen=True, kw_only=True)
class TagPlan:
    type: int
    """Canonical type index."""
    imported: bool
    offset: int
    """Word that holds the tag's identity: the address of the runtime's struct lucet_tag."""


@dataclass(frozen=True, kw_only=True)
class ElemPlan:
    """An element segment as it exists at run time; one that does not has no items and shares a word that is 0."""

    reftype: ValType
    items: tuple[int, ...]
    """As in artifact.def: function index; -1 null; -2 - g the value of global g."""
    offset: int
    """The word that counts the items still there."""


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """A data segment as it exists at run time; one that does not has no bytes and shares a word that is 0."""

    bytes: bytes
    offset: int
    """The word that counts the bytes still there."""


@dataclass(frozen=True, kw_only=True)
class ImageRun:
    """Consecutive pages of the initial contents of memory 0; what no run covers is zero."""

    heap_offset: int
    """Multiple of limits.HOST_PAGE_SIZE, and so is the length of ..."""
    bytes: bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    types: tuple[FuncType, ...]
    """Canonical: equal types appear once, in order of first appearance."""
    type_map: tuple[int, ...]
    """Module type index -> canonical type index."""
    function_types: tuple[int, ...]
    """Function index -> canonical type index."""
    entry_types: tuple[int, ...]
    """Canonical types that have an entry trampoline, ascending: those of functions that the host can get hold of,
    of elements of table 0 among them.
    type.entry_rva is 0 for the others."""
    import_offsets: tuple[int, ...]
    """Parallel to module.imports; for a global the same as globals[k].offset."""
    function_imports: tuple[int, ...]
    """Offset of the two words (code, vmctx) of each imported function, by function index."""
    memories: tuple[MemoryPlan, ...]
    globals: tuple[GlobalPlan, ...]
    tables: tuple[TablePlan, ...]
    ref_offsets: dict[int, int]
    """Function index -> its funcref record, ascending by function."""
    elems: tuple[ElemPlan, ...]
    """Parallel to module.elems (builtins take index-space numbers), or empty when none exists at run time."""
    datas: tuple[DataPlan, ...]
    """Parallel to module.datas, or empty when none exists at run time."""
    images: tuple[ImageRun, ...]
    """Ascending by heap_offset, not adjacent."""
    template: bytes
    """Initial contents of the instance area: instance_size bytes that end at vmctx."""
    instance_size: int
    tail_calls: bool
    """The module has return_call or return_call_indirect: bodies are t<function>, static tables point at those. Only
    functions in `escapes` have an f<function> then."""
    escapes: frozenset[int]
    """Functions that someone can call in C convention: exported, start, with a funcref record."""
    init_globals: tuple[int, ...]
    """Own globals whose initial value init computes."""
    init_tables: tuple[int, ...]
    """Own tables whose elements init sets to a value other than null."""
    init_elems: tuple[int, ...]
    """Active element segments that init copies and drops, in order."""
    init_datas: tuple[int, ...]
    """Active data segments that init copies and drops, in order."""
    tags: tuple[TagPlan, ...] = ()
    exceptions: bool = False
    """The module throws or catches: exceptions may pass through its functions, and LLVM knows it."""
    spill_offset: int = 0
    """Words for the arguments of tailcc functions that have no register: see emit_call.py."""
    count_instructions: bool = False
    graded: bool = False
    """Functions get as much optimisation as their code says they are worth."""
    copied_size: int = 0
    """Bytes that a function body may have for its loops to be emitted twice where a check can make them safe: loops.py.
    """
    hot: frozenset[int] | None = None
    """Functions that are optimised hard; None: all."""
    multi: bool = False
    """Functions that are optimised hard exist in versions for several CPUs: versions.py."""
    inlines: bool = False
    """Calls of small functions become their instructions: see emit_inline.py."""
    features: frozenset[str] = frozenset()
    """What the target CPU has, as named in artifact.def (LUCET_CPU_...)."""
    rounds: bool = True
    """The target rounds floating-point numbers in one instruction (SSE4.1); else LLVM would call libm, which is not
    there."""

    @property
    def has_init(self) -> bool:
        return bool(self.init_globals or self.init_tables or self.init_elems or self.init_datas)

    def static_symbol(self, function: int) -> str:
        """What a static table's entry for the function points at."""
        if function < len(self.function_imports):
            return f"j{function}"
        return f"t{function}" if self.tail_calls else f"f{function}"
