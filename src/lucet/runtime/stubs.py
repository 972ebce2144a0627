"""Typed stubs: what a module's instances export, as Protocols that type checkers read."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from lucet.runtime.exports import Exports
from lucet.runtime.module import ExportType, ExternType
from lucet.wasm.types import FuncType, GlobalType, MemoryType, TableType, ValType, heap_type, is_nullable, is_ref

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Function(Protocol[_P, _R_co]):
    """A Func whose parameters and results a type checker knows; it is a Callable[_P, _R_co], too."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

    def map(self, *columns: Any, out: Any = None) -> Any: ...

    @property
    def type(self) -> FuncType: ...

    @property
    def name(self) -> str | None: ...


_NUMBERS: Final = {"i32": "int", "i64": "int", "f32": "float", "f64": "float", "v128": "bytes"}
_REFERENCES: Final = {"extern": "Any", "exn": "lucet.WasmException"}
_HEAD: Final = '''"""What {source} exports, for type checkers: written by `lucet stubs`."""

from typing import Any, Literal, Protocol, overload

import lucet
from lucet.runtime import Function, Global, Table

class Exports(Protocol):
    """instance.exports of its instances: by name, and as attributes where names allow it."""
'''


def stub(source: str, exports: Sequence[ExportType]) -> str:
    """The text of a .pyi file, whose class Exports is what instance.exports is: typing.cast gives it that type.

    It is a .py file as well, so it can be imported. source: the name of the module, for its docstring.
    """
    shown = "".join(one if one.isprintable() and one not in '\\"' else "?" for one in source)
    return _HEAD.format(source=shown) + "\n".join(_members(exports)) + "\n"


def _members(exports: Sequence[ExportType]) -> Iterator[str]:
    types = [(export.name, _python_type(export.type)) for export in exports]
    for name, python in types:
        if _is_attribute(name):
            yield f"\n    @property\n    def {name}(self) -> {python}: ..."
    if not types:
        yield "\n    def __len__(self) -> Literal[0]: ..."
    for name, python in types:
        overload = "    @overload\n" if len(types) > 1 else ""
        yield f"\n{overload}    def __getitem__(self, name: Literal[{name!a}], /) -> {python}: ..."


def _is_attribute(name: str) -> bool:
    """Whether instance.exports.name is that export, and can be written so."""
    return (
        name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("_")
        and not hasattr(Exports, name)
        and name not in _TAKEN
    )


_TAKEN: Final = frozenset("lucet property overload Any Literal Function Global Table int float bytes tuple str".split())
"""Names that would mean something else in the annotations behind them."""


def _python_type(type_: ExternType) -> str:
    match type_:
        case FuncType():
            params = ", ".join(_value(one) for one in type_.unrolled.params)
            return f"Function[[{params}], {_results(type_.unrolled.results)}]"
        case TableType():
            return "Table"
        case MemoryType():
            return "lucet.SharedMemory" if type_.shared else "lucet.Memory"
        case GlobalType():
            return "Global"
        case _:
            return "lucet.Tag"


def _results(results: tuple[ValType, ...]) -> str:
    if not results:
        return "None"
    if len(results) == 1:
        return _value(results[0])
    return f"tuple[{', '.join(_value(one) for one in results)}]"


def _value(valtype: ValType) -> str:
    if not is_ref(valtype):
        return _NUMBERS[valtype]
    heap = heap_type(valtype)
    if heap.startswith("no"):
        return "None"
    python = _REFERENCES.get(heap, "lucet.Func")
    return f"{python} | None" if is_nullable(valtype) and python != "Any" else python
