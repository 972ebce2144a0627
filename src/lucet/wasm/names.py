"""The name section: what the tools called the module and its functions. Never an error, names have no meaning."""

from __future__ import annotations

from lucet.errors import CompileError
from lucet.wasm.reader import Reader

_MODULE_NAME = 0
_FUNCTION_NAMES = 1


def decode_names(payload: bytes) -> tuple[str | None, dict[int, str]]:
    """(module name, function names) of a name section's payload; none at all if it is malformed."""
    module_name = None
    func_names: dict[int, str] = {}
    reader = Reader(payload)
    try:
        while reader.remaining:
            subsection = reader.byte()
            contents = Reader(reader.take(reader.u32()))
            if subsection == _MODULE_NAME:
                module_name = contents.name()
            elif subsection == _FUNCTION_NAMES:
                func_names = {contents.u32(): contents.name() for _ in range(contents.length())}
    except CompileError:
        return None, {}
    return module_name, func_names
